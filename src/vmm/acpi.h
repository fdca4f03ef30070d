#pragma once
/*
 * vmm/acpi.h - the tables that tell a guest what its machine is made of.
 *
 * Hardware-reduced ACPI 6: no timer, no PM1 registers, no SCI.  Sleep and reset are three ports
 * (vmm/power.h), the power button is a generic event device.  MADT, MCFG and a DSDT with the PCI
 * host bridge, its slots whose devices come and go (vmm/hotplug.h), and the serial port.  Used by
 * vm.c.  Pure but for the guest memory that it writes.
 */
#include "vmm/layout.h"

struct error;
struct guest_memory;

struct acpi_options {
	unsigned int cpus;
	int pci, serial; /* what there is */
	uint32_t slots;  /* of PCI, by bits: what is in them can be added and removed */
};

/* Writes all tables; the root pointer is at LAYOUT_RSDP. */
int acpi_write(const struct guest_memory *memory, const struct acpi_options *options,
	       struct error *err);
