#pragma once
/*
 * vmm/rtc.h - the PC's clock of the day (MC146818), to be read only.
 *
 * Linux with kvmclock never asks it; other kernels read the time once while they boot.  No alarm,
 * no interrupt.  Used by vm.c.
 */
#include "base/cleanup.h"

struct bus;
struct clock;
struct error;
struct rtc;

int rtc_new(struct bus *io, struct clock *clock, struct rtc **ret, struct error *err);
void rtc_free(struct rtc *rtc);
DEFINE_AUTO(struct rtc *, rtc_free)
