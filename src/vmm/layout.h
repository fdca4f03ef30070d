#pragma once
/*
 * vmm/layout.h - the physical address space and the interrupts of a virtual machine: who lies
 * where.
 *
 * One table for everything that must agree on it: memory, buses, ACPI tables, boot protocols.
 * Numbers below 1 MiB follow the PC's habits (Linux Documentation/arch/x86/boot.rst, PVH: Xen
 * docs/misc/pvh.pandoc).
 */
#include <stdint.h>

typedef uint64_t gpa_t; /* a guest physical address */

/* Memory: from 0 to the hole, the rest from 4 GiB on. */
#define LAYOUT_HOLE_START 0xc0000000ull
#define LAYOUT_HIGH_START 0x100000000ull

/* Below 1 MiB. */
#define LAYOUT_GDT 0x500ull
#define LAYOUT_PVH_START_INFO 0x6000ull
#define LAYOUT_ZERO_PAGE 0x7000ull
#define LAYOUT_PAGE_TABLES 0x9000ull /* 3 pages of identity map for the 64-bit entry */
#define LAYOUT_COMMAND_LINE 0x20000ull
#define LAYOUT_COMMAND_LINE_MAX 4096
#define LAYOUT_EBDA 0x9fc00ull
#define LAYOUT_RSDP 0xe0000ull /* the other ACPI tables follow, below LAYOUT_KERNEL */
#define LAYOUT_KERNEL 0x100000ull
#define LAYOUT_LINUX64_END 0x40000000ull /* what LAYOUT_PAGE_TABLES map */

/* The hole. */
#define LAYOUT_VIRTIO_MMIO 0xc0000000ull /* 4 KiB each */
#define LAYOUT_VIRTIO_MMIO_MAX 32
#define LAYOUT_PCI_WINDOW 0xc1000000ull /* 32-bit BARs */
#define LAYOUT_PCI_WINDOW_END 0xe0000000ull
#define LAYOUT_PCI_ECAM 0xe0000000ull /* bus 0 only: 1 MiB */
#define LAYOUT_PCI_ECAM_SIZE 0x100000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_GED 0xfed00000ull     /* why the event device's interrupt came, 4 bytes */
#define LAYOUT_HOTPLUG 0xfed01000ull /* which PCI slots have changed (vmm/hotplug.h) */
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_IDENTITY_MAP 0xfffbc000ull /* KVM on Intel: one page, then three of the TSS */
#define LAYOUT_TSS 0xfffbd000ull

/* Port I/O. */
enum {
	LAYOUT_PORT_I8042 = 0x60, /* data; 0x64 = command: 0xfe resets */
	LAYOUT_PORT_RTC = 0x70,
	LAYOUT_PORT_SERIAL = 0x3f8,
	LAYOUT_PORT_SLEEP = 0x600, /* ACPI sleep control, +1 status, +2 reset */
	LAYOUT_PORT_PCI_ADDRESS = 0xcf8,
	LAYOUT_PORT_PCI_DATA = 0xcfc,
};

/* The bits at LAYOUT_GED. */
enum {
	LAYOUT_GED_BUTTON = 1,
	LAYOUT_GED_SLOTS = 2,
};

/* Global system interrupts. */
enum {
	LAYOUT_GSI_SERIAL = 4,
	LAYOUT_GSI_RTC = 8,
	LAYOUT_GSI_GED = 9,
	LAYOUT_GSI_VIRTIO_MMIO = 10, /* 10..15, then shared again */
	LAYOUT_GSI_COUNT = 24,       /* of the IOAPIC; routes of MSI use numbers from here on */
};
