#include "vmm/rtc.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/layout.h"

enum {
	INDEX_MASK = 0x7f, /* bit 7 masks NMIs */
	STATUS_A = 0x0a,
	STATUS_B = 0x0b,
	STATUS_D = 0x0d,
	CENTURY = 0x32,
	DIVIDER = 0x26,
	HOURS_24 = 0x02, /* and binary-coded decimal */
	VALID = 0x80,
};

struct rtc {
	struct bus *io;
	struct clock *clock;
	pthread_mutex_t lock;
	uint8_t index;
};

static uint8_t bcd(int value)
{
	return (uint8_t) (value / 10 % 10 * 16 + value % 10);
}

static uint8_t read_register(struct rtc *rtc)
{
	time_t now = (time_t) (clock_realtime_ms(rtc->clock) / 1000);
	struct tm tm = {};

	gmtime_r(&now, &tm);
	switch (rtc->index) {
	case 0:
		return bcd(tm.tm_sec);
	case 2:
		return bcd(tm.tm_min);
	case 4:
		return bcd(tm.tm_hour);
	case 6:
		return bcd(tm.tm_wday + 1);
	case 7:
		return bcd(tm.tm_mday);
	case 8:
		return bcd(tm.tm_mon + 1);
	case 9:
		return bcd(tm.tm_year % 100);
	case CENTURY:
		return bcd((tm.tm_year + 1900) / 100);
	case STATUS_A:
		return DIVIDER;
	case STATUS_B:
		return HOURS_24;
	case STATUS_D:
		return VALID;
	default:
		return 0;
	}
}

static uint64_t rtc_read(void *data, uint64_t offset, unsigned int size)
{
	struct rtc *rtc = data;
	uint8_t value;

	(void) size;
	pthread_mutex_lock(&rtc->lock);
	value = offset == 1 ? read_register(rtc) : 0xff;
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void rtc_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct rtc *rtc = data;

	(void) size;
	if (offset != 0)
		return;
	pthread_mutex_lock(&rtc->lock);
	rtc->index = value & INDEX_MASK;
	pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops rtc_ops = { rtc_read, rtc_write };

int rtc_new(struct bus *io, struct clock *clock, struct rtc **ret, struct error *err)
{
	AUTO(rtc_free) struct rtc *rtc = mem_new0(struct rtc);
	int r;

	pthread_mutex_init(&rtc->lock, NULL);
	rtc->clock = clock;
	r = bus_add(io, "rtc", LAYOUT_PORT_RTC, 2, &rtc_ops, rtc, err);
	if (r < 0)
		return r;
	rtc->io = io;
	*ret = TAKE_PTR(rtc);
	return 0;
}

void rtc_free(struct rtc *rtc)
{
	if (!rtc)
		return;
	if (rtc->io)
		bus_remove(rtc->io, LAYOUT_PORT_RTC);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}
