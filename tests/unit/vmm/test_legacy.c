#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "fake_irq.h"
#include "vmm/bus.h"
#include "vmm/layout.h"
#include "vmm/power.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"

/* ---- serial ---- */

struct serial_test {
	struct fake_irqs irqs;
	struct bus *io;
	struct serial *serial;
	struct strbuf out;
	unsigned int drained;
};

static void on_output(void *data, const void *text, size_t size)
{
	strbuf_append(&((struct serial_test *) data)->out, text, size);
}

static void on_drained(void *data)
{
	((struct serial_test *) data)->drained++;
}

static void serial_make(struct serial_test *test)
{
	fake_irqs_init(&test->irqs);
	test->io = bus_new();
	assert_int_equal(serial_new(test->io, &test->irqs.chip, on_output, on_drained, test,
				    &test->serial, NULL),
			 0);
	assert_int_equal(test->irqs.last_gsi, LAYOUT_GSI_SERIAL);
}

static void serial_unmake(struct serial_test *test)
{
	serial_free(test->serial);
	assert_int_equal(test->irqs.made, test->irqs.freed);
	assert_int_equal(bus_read(test->io, 0x3f8 + 5, 1), 0xff);
	bus_free(test->io);
	strbuf_done(&test->out);
}

static uint8_t in(struct serial_test *test, unsigned int offset)
{
	return (uint8_t) bus_read(test->io, LAYOUT_PORT_SERIAL + offset, 1);
}

static void out(struct serial_test *test, unsigned int offset, uint8_t value)
{
	bus_write(test->io, LAYOUT_PORT_SERIAL + offset, 1, value);
}

static void serial_is_found_and_prints(void **state)
{
	struct serial_test test = {};

	(void) state;
	serial_make(&test);
	/* As Linux looks for it. */
	out(&test, 1, 0);
	assert_int_equal(in(&test, 1), 0);
	out(&test, 1, 0x0f);
	assert_int_equal(in(&test, 1), 0x0f);
	out(&test, 1, 0);
	out(&test, 4, 0x1a); /* loop: RTS and OUT2 become CTS and DCD */
	assert_int_equal(in(&test, 6) & 0xf0, 0x90);
	out(&test, 4, 0);
	out(&test, 2, 1);
	assert_int_equal(in(&test, 2) & 0xc0, 0xc0);
	out(&test, 7, 0x5a);
	assert_int_equal(in(&test, 7), 0x5a);
	out(&test, 3, 0x80);
	out(&test, 0, 0x34);
	out(&test, 1, 0x12);
	assert_int_equal(in(&test, 0), 0x34);
	assert_int_equal(in(&test, 1), 0x12);
	out(&test, 3, 3);
	assert_int_equal(in(&test, 5), 0x60);
	out(&test, 0, 'h');
	out(&test, 0, 'i');
	assert_string_equal(strbuf_str(&test.out), "hi");
	assert_int_equal(test.irqs.raised, 1); /* while IER was tried */
	serial_unmake(&test);
}

static void serial_interrupts(void **state)
{
	struct serial_test test = {};

	(void) state;
	serial_make(&test);
	out(&test, 1, 2); /* empty already */
	assert_int_equal(test.irqs.raised, 1);
	assert_int_equal(in(&test, 2) & 0xf, 2);
	assert_int_equal(in(&test, 2) & 0xf, 1); /* reading it took it back */
	out(&test, 0, 'x');
	assert_int_equal(test.irqs.raised, 2);
	assert_int_equal(in(&test, 2) & 0xf, 2);
	assert_int_equal(serial_input(test.serial, "abc", 3), 3);
	assert_int_equal(test.irqs.raised, 2); /* not asked for */
	out(&test, 1, 1);
	assert_int_equal(test.irqs.raised, 3);
	assert_int_equal(in(&test, 2) & 0xf, 4);
	assert_int_equal(in(&test, 5) & 1, 1);
	assert_int_equal(in(&test, 0), 'a');
	assert_int_equal(in(&test, 0), 'b');
	assert_int_equal(test.drained, 0);
	assert_int_equal(in(&test, 0), 'c');
	assert_int_equal(test.drained, 1);
	assert_int_equal(in(&test, 0), 0);
	assert_int_equal(in(&test, 5) & 1, 0);
	serial_unmake(&test);
}

static void serial_takes_what_fits(void **state)
{
	struct serial_test test = {};

	(void) state;
	serial_make(&test);
	assert_int_equal(serial_input(test.serial, "0123456789abcdefXYZ", 19), SERIAL_FIFO);
	assert_int_equal(serial_input(test.serial, "X", 1), 0);
	out(&test, 4, 0x10);
	out(&test, 0, 'L'); /* looped back, and there is no room */
	assert_int_equal(in(&test, 0), '0');
	out(&test, 2, 3); /* clears */
	assert_int_equal(in(&test, 5) & 1, 0);
	serial_reset(test.serial);
	assert_int_equal(in(&test, 4), 0);
	assert_int_equal(test.out.size, 0);
	serial_unmake(&test);
}

/* ---- clock ---- */

static int64_t fixed_ms(struct clock *clock)
{
	(void) clock;
	return 1795251914734; /* Saturday 2026-11-21 09:05:14.734 UTC */
}

static uint8_t cmos(struct bus *io, uint8_t index)
{
	bus_write(io, LAYOUT_PORT_RTC, 1, index | 0x80);
	return (uint8_t) bus_read(io, LAYOUT_PORT_RTC + 1, 1);
}

static void clock_tells_the_time(void **state)
{
	struct clock clock = { .realtime_ms = fixed_ms };
	AUTO(bus_free) struct bus *io = bus_new();
	AUTO(rtc_free) struct rtc *rtc = NULL;

	(void) state;
	assert_int_equal(rtc_new(io, &clock, &rtc, NULL), 0);
	assert_int_equal(cmos(io, 0), 0x14);
	assert_int_equal(cmos(io, 2), 0x05);
	assert_int_equal(cmos(io, 4), 0x09);
	assert_int_equal(cmos(io, 6), 0x07);
	assert_int_equal(cmos(io, 7), 0x21);
	assert_int_equal(cmos(io, 8), 0x11);
	assert_int_equal(cmos(io, 9), 0x26);
	assert_int_equal(cmos(io, 0x32), 0x20);
	assert_int_equal(cmos(io, 0x0a), 0x26);
	assert_int_equal(cmos(io, 0x0b), 0x02);
	assert_int_equal(cmos(io, 0x0d), 0x80);
	assert_int_equal(cmos(io, 0x7f), 0);
	rtc_free(TAKE_PTR(rtc));
	assert_int_equal(cmos(io, 0), 0xff);
}

/* ---- power ---- */

struct power_test {
	unsigned int off, reset;
};

static void on_off(void *data)
{
	((struct power_test *) data)->off++;
}

static void on_reset(void *data)
{
	((struct power_test *) data)->reset++;
}

static void power_registers(void **state)
{
	static const struct power_ops ops = { on_off, on_reset };
	AUTO(bus_free) struct bus *io = bus_new();
	AUTO(bus_free) struct bus *mmio = bus_new();
	AUTO(power_free) struct power *power = NULL;
	struct fake_irqs irqs;
	struct power_test seen = {};

	(void) state;
	fake_irqs_init(&irqs);
	assert_int_equal(power_new(io, mmio, &irqs.chip, &ops, &seen, &power, NULL), 0);
	bus_write(io, LAYOUT_PORT_SLEEP, 1, 5 << 2);          /* not enabled */
	bus_write(io, LAYOUT_PORT_SLEEP, 1, 1 << 5 | 3 << 2); /* a sleep that is not there */
	bus_write(io, LAYOUT_PORT_SLEEP + 2, 1, 0);
	bus_write(io, LAYOUT_PORT_I8042 + 4, 1, 0xd1);
	assert_int_equal(seen.off + seen.reset, 0);
	assert_int_equal(bus_read(io, LAYOUT_PORT_I8042 + 4, 1), 0);
	bus_write(io, LAYOUT_PORT_SLEEP, 1, 1 << 5 | 5 << 2);
	assert_int_equal(seen.off, 1);
	bus_write(io, LAYOUT_PORT_SLEEP + 2, 1, 1);
	bus_write(io, LAYOUT_PORT_I8042 + 4, 1, 0xfe);
	assert_int_equal(seen.reset, 2);

	power_press_button(power);
	assert_int_equal(irqs.raised, 1);
	assert_int_equal(irqs.last_gsi, LAYOUT_GSI_GED);
	assert_int_equal(bus_read(mmio, LAYOUT_GED, 4), 1);
	assert_int_equal(bus_read(mmio, LAYOUT_GED, 4), 0);
	power_press_button(power);
	power_tell_slots(power);
	assert_int_equal(bus_read(mmio, LAYOUT_GED, 4), LAYOUT_GED_BUTTON | LAYOUT_GED_SLOTS);
	power_press_button(power);
	power_reset(power);
	assert_int_equal(bus_read(mmio, LAYOUT_GED, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serial_is_found_and_prints),
		cmocka_unit_test(serial_interrupts),
		cmocka_unit_test(serial_takes_what_fits),
		cmocka_unit_test(clock_tells_the_time),
		cmocka_unit_test(power_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
