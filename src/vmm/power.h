#pragma once
/*
 * vmm/power.h - how a guest ends or restarts itself, and how the outside asks it to: ACPI's sleep
 * and reset registers, the power button, the keyboard controller's reset line.  The button's event
 * device also says that PCI slots have changed (vmm/hotplug.h).
 *
 * Used by vm.c.  Callbacks run in a vCPU's thread; power_press_button() and power_tell_slots() are
 * for any thread.
 */
#include "base/cleanup.h"

struct bus;
struct error;
struct irq_chip;
struct power;

struct power_ops {
	void (*off)(void *data);
	void (*reset)(void *data);
};

int power_new(struct bus *io, struct bus *mmio, struct irq_chip *irq_chip,
	      const struct power_ops *ops, void *data, struct power **ret, struct error *err);
void power_free(struct power *power);
DEFINE_AUTO(struct power *, power_free)

void power_press_button(struct power *power);
void power_tell_slots(struct power *power);
/* As after switching on. */
void power_reset(struct power *power);
