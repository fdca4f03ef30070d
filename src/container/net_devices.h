#pragma once
/*
 * container/net_devices.h - linux.netDevices: interfaces of the host that become the container's.
 *
 * Used by launch once the container's namespaces are there.  The kernel gives a physical interface
 * back when the container's network namespace ends; others end with it.
 */
#include <sys/types.h>

#include "codec/oci_spec.h"

struct error;

/* Moves them from our network namespace into that of process `pid`, which is not ours. */
int net_devices_move(const struct oci_spec *spec, pid_t pid, struct error *err);
