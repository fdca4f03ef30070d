#pragma once
/*
 * vmm/hotplug.h - tells a guest which PCI slots have got something new and which it shall let go
 * of, and hears when it has: ACPI PCI hotplug, as cloud-hypervisor and QEMU do it.
 *
 * Three registers of 32 bits at LAYOUT_HOTPLUG, a bit for each slot: UP and DOWN say what has
 * changed and forget it when they are read; who writes to EJECT has let go.  The methods in
 * acpi.c use them when the event device (vmm/power.h) says so.  Only what the guest was asked for
 * can be ejected, once.
 * Used by vm_hotplug.c.  Thread-safe: the main thread asks, vCPU threads answer.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct bus;
struct error;
struct hotplug;

enum {
	HOTPLUG_UP = 0,
	HOTPLUG_DOWN = 4,
	HOTPLUG_EJECT = 8,
	HOTPLUG_BYTES = 12,
};

struct hotplug_ops {
	/* There is something to be read. */
	void (*tell)(void *data);
	/* The guest has let go of this slot.  In a vCPU's thread, from within an access. */
	void (*ejected)(void *data, unsigned int slot);
};

int hotplug_new(struct bus *mmio, const struct hotplug_ops *ops, void *data, struct hotplug **ret,
		struct error *err);
void hotplug_free(struct hotplug *hotplug);
DEFINE_AUTO(struct hotplug *, hotplug_free)

/* Something is in the slot now. */
void hotplug_add(struct hotplug *hotplug, unsigned int slot);
/* Asks the guest to let go of it; again and again if need be. */
void hotplug_ask(struct hotplug *hotplug, unsigned int slot);
/* Does not ask any more.  False: it has let go already. */
bool hotplug_cancel(struct hotplug *hotplug, unsigned int slot);
/* As after switching on: the guest will look for itself. */
void hotplug_reset(struct hotplug *hotplug);
