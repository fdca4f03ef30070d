#pragma once
/*
 * cli/number.h - whole numbers from the command line.  Pure.
 */
#include <stdint.h>

struct error;

/* Decimal digits only; `what` names the place in the message ("--pids"). */
int number_parse(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret,
		 struct error *err);
