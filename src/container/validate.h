#pragma once
/*
 * container/validate.h - what a config.json asks for in contradiction to itself.
 *
 * Pure.  Used by launch before anything is made.
 */
#include "codec/oci_spec.h"

struct error;

int validate_spec(const struct oci_spec *spec, struct error *err);

/* Whether a sysctl is of a namespace that the container has for itself. */
int validate_sysctl(const struct oci_spec *spec, const char *name, struct error *err);
