#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/irq.h"
#include "vmm/msix.h"

enum { COUNT = 3 };

struct test_irq {
	struct irq irq; /* first */
	unsigned int raised, routed;
	uint64_t address;
	uint32_t value;
};

struct fixture {
	struct msix msix;
	struct irq_chip chip;
	struct test_irq *irqs[COUNT];
	unsigned int made, fail_at;
	bool refuse;
};

static int on_message(void *data, struct irq **ret, struct error *err)
{
	struct fixture *f = data;
	struct test_irq *irq;

	if (f->made == f->fail_at)
		return error_set(err, -ENOSPC, "no more interrupts");
	irq = mem_new0(struct test_irq);
	irq->irq.chip = &f->chip;
	f->irqs[f->made++] = irq;
	*ret = &irq->irq;
	return 0;
}

static int on_route(struct irq *irq, uint64_t address, uint32_t value)
{
	struct test_irq *self = (struct test_irq *) irq;
	struct fixture *f = irq->chip->data;

	self->routed++;
	self->address = address;
	self->value = value;
	return f->refuse ? -EINVAL : 0;
}

static void on_set(struct irq *irq, bool up)
{
	((struct test_irq *) irq)->raised += up;
}

static void on_free(struct irq *irq)
{
	free(irq);
}

static const struct irq_chip_ops ops = {
	.message = on_message,
	.route = on_route,
	.set = on_set,
	.free = on_free,
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct error err = {};

	f->chip = (struct irq_chip){ .ops = &ops, .data = f };
	f->fail_at = COUNT;
	assert_int_equal(msix_init(&f->msix, &f->chip, COUNT, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	msix_done(&f->msix);
	free(f);
	return 0;
}

static void put(struct fixture *f, unsigned int vector, uint32_t address, uint32_t value,
		uint32_t control)
{
	msix_table_write(&f->msix, 16 * vector, 4, address);
	msix_table_write(&f->msix, 16 * vector + 4, 4, 0);
	msix_table_write(&f->msix, 16 * vector + 8, 4, value);
	msix_table_write(&f->msix, 16 * vector + 12, 4, control);
}

static void test_off(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(msix_table_read(&f->msix, 12, 4), PCI_MSIX_ENTRY_CTRL_MASKBIT);
	put(f, 0, 0xfee00000, 0x41, 0);
	assert_false(msix_raise(&f->msix, 0));
	assert_int_equal(f->irqs[0]->routed + f->irqs[0]->raised, 0);
	msix_set_control(&f->msix, true, false);
	assert_int_equal(f->irqs[0]->routed, 1);
	assert_true(f->irqs[0]->address == 0xfee00000);
	assert_int_equal(f->irqs[0]->value, 0x41);
	/* The others are masked: nothing to route yet. */
	assert_int_equal(f->irqs[1]->routed, 0);
	assert_true(msix_raise(&f->msix, 0));
	assert_int_equal(f->irqs[0]->raised, 1);
	assert_true(msix_raise(&f->msix, COUNT));
	assert_true(msix_raise(&f->msix, 0xffff));
}

static void test_routes_once(void **state)
{
	struct fixture *f = *state;

	msix_set_control(&f->msix, true, false);
	put(f, 1, 0xfee00000, 0x51, 0);
	assert_int_equal(f->irqs[1]->routed, 1);
	/* Masked and unmasked as it is: the machine knows already. */
	msix_table_write(&f->msix, 28, 4, 1);
	msix_table_write(&f->msix, 28, 4, 0);
	msix_set_control(&f->msix, true, true);
	msix_set_control(&f->msix, true, false);
	assert_int_equal(f->irqs[1]->routed, 1);
	msix_table_write(&f->msix, 28, 4, 1);
	put(f, 1, 0xfee01000, 0x52, 0);
	assert_int_equal(f->irqs[1]->routed, 2);
	assert_true(f->irqs[1]->address == 0xfee01000);
	/* What was refused is tried again at the next chance. */
	f->refuse = true;
	put(f, 2, 0x1234, 0x53, 0);
	f->refuse = false;
	msix_table_write(&f->msix, 44, 4, 1);
	msix_table_write(&f->msix, 44, 4, 0);
	assert_int_equal(f->irqs[2]->routed, 2);
}

static void test_pending(void **state)
{
	struct fixture *f = *state;

	msix_set_control(&f->msix, true, false);
	msix_raise(&f->msix, 2);
	msix_raise(&f->msix, 2);
	assert_int_equal(f->irqs[2]->raised, 0);
	assert_int_equal(msix_pending_read(&f->msix, 0, 8), 1 << 2);
	put(f, 2, 0xfee00000, 0x61, 0);
	assert_int_equal(f->irqs[2]->raised, 1);
	assert_int_equal(msix_pending_read(&f->msix, 0, 4), 0);
}

static void test_bounds(void **state)
{
	struct fixture *f = *state;

	msix_table_write(&f->msix, 1, 4, UINT32_MAX);
	msix_table_write(&f->msix, 0, 1, UINT32_MAX);
	msix_table_write(&f->msix, 0, 2, UINT32_MAX);
	msix_table_write(&f->msix, 16 * COUNT, 4, UINT32_MAX);
	msix_table_write(&f->msix, 16 * COUNT - 4, 8, UINT64_MAX);
	msix_table_write(&f->msix, UINT64_MAX - 3, 4, UINT32_MAX);
	assert_int_equal(msix_table_read(&f->msix, 0, 8), 0);
	assert_int_equal(msix_table_read(&f->msix, 16 * COUNT, 4), 0);
	assert_int_equal(msix_table_read(&f->msix, 16 * COUNT - 4, 8), 0);
	assert_int_equal(msix_pending_read(&f->msix, 4096, 8), 0);
	msix_table_write(&f->msix, 16, 8, 0x1122334455667788);
	assert_true(msix_table_read(&f->msix, 16, 8) == 0x1122334455667788);
	assert_int_equal(msix_table_read(&f->msix, 17, 1), 0x77);
}

static void test_no_interrupts_left(void **state)
{
	struct fixture f = { .fail_at = 1 };
	struct error err = {};

	(void) state;
	f.chip = (struct irq_chip){ .ops = &ops, .data = &f };
	assert_int_equal(msix_init(&f.msix, &f.chip, COUNT, &err), -ENOSPC);
	msix_done(&f.msix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_routes_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test(test_no_interrupts_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
