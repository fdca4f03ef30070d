#include "vmm/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/strbuf.h"
#include "vmm/memory.h"

enum {
	HEADER_BYTES = 36,
	FADT_BYTES = 276,
	TABLES_BYTES = LAYOUT_KERNEL - LAYOUT_RSDP,
	ALIGN = 16,
	SPACE_MEMORY = 0,
	SPACE_IO = 1,
	PCI_SLOTS = 32,

	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_LOCAL0 = 0x60,
	AML_STORE = 0x70,
	AML_AND = 0x7b,
	AML_NOTIFY = 0x86,
	AML_IF = 0xa0,
	AML_REGION = 0x5b80,
	AML_FIELD = 0x5b81,
	AML_DEVICE = 0x5b82,
	METHOD_SERIALIZED = 1 << 3, /* beside the count of its arguments */
	FIELD_DWORDS_ZEROS = 0x43,  /* access by double words, what is not written is zero */
	NOTIFY_DEVICE_CHECK = 1,
	NOTIFY_EJECT_REQUEST = 3,
	NOTIFY_BUTTON = 0x80,
};

/* ---- AML ---- */

static void put8(struct strbuf *out, unsigned int value)
{
	uint8_t byte = (uint8_t) value;

	strbuf_append(out, &byte, 1);
}

static void put16(struct strbuf *out, unsigned int value)
{
	put8(out, value);
	put8(out, value >> 8);
}

static void put32(struct strbuf *out, uint32_t value)
{
	put16(out, value);
	put16(out, value >> 16);
}

static void put64(struct strbuf *out, uint64_t value)
{
	put32(out, (uint32_t) value);
	put32(out, (uint32_t) (value >> 32));
}

/* A package length counts itself. */
static void put_length(struct strbuf *out, size_t size)
{
	if (size + 1 < 0x40) {
		put8(out, (unsigned int) size + 1);
	} else if (size + 2 < 0x1000) {
		put8(out, 0x40 | ((size + 2) & 0xf));
		put8(out, (unsigned int) ((size + 2) >> 4));
	} else {
		put8(out, 0x80 | ((size + 3) & 0xf));
		put16(out, (unsigned int) ((size + 3) >> 4));
	}
}

static void put_opcode(struct strbuf *out, unsigned int opcode)
{
	if (opcode > 0xff)
		put8(out, opcode >> 8);
	put8(out, opcode);
}

/* An opcode (one or two bytes) with a package of `body`, which is freed. */
static void put_package(struct strbuf *out, unsigned int opcode, struct strbuf *body)
{
	put_opcode(out, opcode);
	put_length(out, body->size);
	strbuf_append(out, strbuf_str(body), body->size);
	strbuf_done(body);
}

static void put_integer(struct strbuf *out, uint32_t value)
{
	if (value < 2) {
		put8(out, value);
	} else {
		put8(out, AML_DWORD);
		put32(out, value);
	}
}

static void put_name(struct strbuf *out, const char *name)
{
	put8(out, AML_NAME);
	strbuf_puts(out, name);
}

static void put_name_integer(struct strbuf *out, const char *name, uint32_t value)
{
	put_name(out, name);
	put_integer(out, value);
}

/* "PNP0A08": three letters of five bits, four hex digits, most significant byte first. */
static void put_name_eisa(struct strbuf *out, const char *name, const char *id)
{
	uint32_t value = (uint32_t) (id[0] - '@') << 26 | (uint32_t) (id[1] - '@') << 21 |
			 (uint32_t) (id[2] - '@') << 16;

	for (int i = 0; i < 4; i++) {
		char c = id[3 + i];

		value |= (uint32_t) (c <= '9' ? c - '0' : c - 'A' + 10) << (12 - 4 * i);
	}
	put_name(out, name);
	put8(out, AML_DWORD);
	put32(out, __builtin_bswap32(value));
}

/* A name with a buffer of resource descriptors, which are freed. */
static void put_resources(struct strbuf *out, struct strbuf *resources)
{
	struct strbuf body = {};

	put16(resources, 0x0079); /* end tag */
	put8(&body, AML_BYTE);
	put8(&body, (unsigned int) resources->size);
	strbuf_append(&body, strbuf_str(resources), resources->size);
	strbuf_done(resources);
	put_name(out, "_CRS");
	put_package(out, AML_BUFFER, &body);
}

static void put_io(struct strbuf *out, unsigned int port, unsigned int size)
{
	put8(out, 0x47);
	put8(out, 1);
	put16(out, port);
	put16(out, port);
	put8(out, 1);
	put8(out, size);
}

/* Edge-triggered, active high, not shared. */
static void put_interrupt(struct strbuf *out, uint32_t gsi)
{
	put8(out, 0x89);
	put16(out, 6);
	put8(out, 0x03);
	put8(out, 1);
	put32(out, gsi);
}

/* Registers in memory of 32 bits each; `names` has four letters for each. */
static void put_registers(struct strbuf *out, const char *region, uint32_t address,
			  const char *names)
{
	struct strbuf field = {};

	put_opcode(out, AML_REGION);
	strbuf_puts(out, region);
	put8(out, SPACE_MEMORY);
	put_integer(out, address);
	put_integer(out, (uint32_t) strlen(names));
	strbuf_puts(&field, region);
	put8(&field, FIELD_DWORDS_ZEROS);
	for (; *names; names += 4) {
		strbuf_append(&field, names, 4);
		put8(&field, 32);
	}
	put_package(out, AML_FIELD, &field);
}

static void begin_method(struct strbuf *method, const char *name, unsigned int flags)
{
	strbuf_puts(method, name);
	put8(method, flags);
}

/* Local = name */
static void put_load(struct strbuf *out, unsigned int local, const char *name)
{
	put8(out, AML_STORE);
	strbuf_puts(out, name);
	put8(out, AML_LOCAL0 + local);
}

/* If (local & bits) { body }, which is freed. */
static void put_if(struct strbuf *out, unsigned int local, uint32_t bits, struct strbuf *body)
{
	struct strbuf block = {};

	put8(&block, AML_AND);
	put8(&block, AML_LOCAL0 + local);
	put_integer(&block, bits);
	put8(&block, 0); /* the result goes nowhere else */
	strbuf_append(&block, strbuf_str(body), body->size);
	strbuf_done(body);
	put_package(out, AML_IF, &block);
}

static void put_notify(struct strbuf *out, const char *name, unsigned int value)
{
	put8(out, AML_NOTIFY);
	strbuf_puts(out, name);
	put8(out, AML_BYTE);
	put8(out, value);
}

/* ---- what there is ---- */

static void slot_name(unsigned int slot, char ret[8])
{
	snprintf(ret, 8, "S%03u", slot % PCI_SLOTS);
}

/* Device (S005) { Name (_ADR, 0x50000) Name (_SUN, 5) Method (_EJ0, 1) { HPEJ = 1 << 5 } } */
static void put_slot(struct strbuf *out, unsigned int slot)
{
	struct strbuf device = {}, method = {};
	char name[8];

	slot_name(slot, name);
	strbuf_puts(&device, name);
	put_name_integer(&device, "_ADR", slot << 16);
	put_name_integer(&device, "_SUN", slot);
	begin_method(&method, "_EJ0", 1);
	put8(&method, AML_STORE);
	put_integer(&method, 1u << slot);
	strbuf_puts(&method, "HPEJ");
	put_package(&device, AML_METHOD, &method);
	put_package(out, AML_DEVICE, &device);
}

/*
 * The slots, and a method that tells them what has changed: the registers of vmm/hotplug.h say
 * which.
 */
static void put_slots(struct strbuf *out, uint32_t slots)
{
	struct strbuf scan = {}, notify = {};
	char name[8];

	put_registers(out, "HPRG", LAYOUT_HOTPLUG, "HPUPHPDNHPEJ");
	begin_method(&scan, "SCAN", METHOD_SERIALIZED);
	put_load(&scan, 0, "HPUP");
	put_load(&scan, 1, "HPDN");
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++) {
		if (!(slots & 1u << slot))
			continue;
		put_slot(out, slot);
		slot_name(slot, name);
		put_notify(&notify, name, NOTIFY_DEVICE_CHECK);
		put_if(&scan, 0, 1u << slot, &notify);
		put_notify(&notify, name, NOTIFY_EJECT_REQUEST);
		put_if(&scan, 1, 1u << slot, &notify);
	}
	put_package(out, AML_METHOD, &scan);
}

static void put_pci(struct strbuf *out, uint32_t slots)
{
	struct strbuf resources = {}, device = {};

	strbuf_puts(&device, "PCI0");
	put_name_eisa(&device, "_HID", "PNP0A08");
	put_name_eisa(&device, "_CID", "PNP0A03");
	put_name_integer(&device, "_UID", 0);
	put_name_integer(&device, "_SEG", 0);
	put_name_integer(&device, "_BBN", 0);

	put8(&resources, 0x88); /* bus numbers 0 to 0 */
	put16(&resources, 13);
	put8(&resources, 2);
	put8(&resources, 0x0c);
	put8(&resources, 0);
	put16(&resources, 0);
	put16(&resources, 0);
	put16(&resources, 0);
	put16(&resources, 0);
	put16(&resources, 1);
	put_io(&resources, LAYOUT_PORT_PCI_ADDRESS, 8);
	put8(&resources, 0x87); /* memory for BARs */
	put16(&resources, 23);
	put8(&resources, 0);
	put8(&resources, 0x0c);
	put8(&resources, 1);
	put32(&resources, 0);
	put32(&resources, LAYOUT_PCI_WINDOW);
	put32(&resources, LAYOUT_PCI_WINDOW_END - 1);
	put32(&resources, 0);
	put32(&resources, LAYOUT_PCI_WINDOW_END - LAYOUT_PCI_WINDOW);
	put_resources(&device, &resources);
	if (slots)
		put_slots(&device, slots);
	put_package(out, AML_DEVICE, &device);
}

static void put_serial(struct strbuf *out)
{
	struct strbuf resources = {}, device = {};

	strbuf_puts(&device, "COM1");
	put_name_eisa(&device, "_HID", "PNP0501");
	put_name_integer(&device, "_UID", 0);
	put_io(&resources, LAYOUT_PORT_SERIAL, 8);
	put_interrupt(&resources, LAYOUT_GSI_SERIAL);
	put_resources(&device, &resources);
	put_package(out, AML_DEVICE, &device);
}

/*
 * An event device whose method asks the register at LAYOUT_GED why it was called (reading clears):
 * the power button, or PCI slots.
 */
static void put_events(struct strbuf *out, uint32_t slots)
{
	struct strbuf resources = {}, device = {}, method = {}, then = {}, button = {};

	strbuf_puts(&button, "PWRB");
	put_name_eisa(&button, "_HID", "PNP0C0C");
	put_name_integer(&button, "_UID", 0);
	put_package(out, AML_DEVICE, &button);

	strbuf_puts(&device, "GED0");
	put_name(&device, "_HID");
	put8(&device, AML_STRING);
	strbuf_append(&device, "ACPI0013", 9);
	put_name_integer(&device, "_UID", 0);
	put_interrupt(&resources, LAYOUT_GSI_GED);
	put_resources(&device, &resources);
	put_registers(&device, "GEDR", LAYOUT_GED, "GEDS");

	begin_method(&method, "_EVT", METHOD_SERIALIZED | 1);
	put_load(&method, 0, "GEDS");
	put_notify(&then, "PWRB", NOTIFY_BUTTON);
	put_if(&method, 0, LAYOUT_GED_BUTTON, &then);
	if (slots) {
		strbuf_puts(&then, "\\/\3_SB_PCI0SCAN"); /* \_SB.PCI0.SCAN () */
		put_if(&method, 0, LAYOUT_GED_SLOTS, &then);
	}
	put_package(&device, AML_METHOD, &method);
	put_package(out, AML_DEVICE, &device);
}

static void put_definitions(struct strbuf *out, const struct acpi_options *options)
{
	uint32_t slots = options->pci ? options->slots : 0;
	struct strbuf scope = {}, sleep = {};

	strbuf_puts(&scope, "\\_SB_");
	if (options->pci)
		put_pci(&scope, slots);
	if (options->serial)
		put_serial(&scope);
	put_events(&scope, slots);
	put_package(out, AML_SCOPE, &scope);
	put_name(out, "_S5_");
	put8(&sleep, 4);
	put8(&sleep, AML_BYTE);
	put8(&sleep, 5);
	put8(&sleep, 0);
	put8(&sleep, 0);
	put8(&sleep, 0);
	put_package(out, AML_PACKAGE, &sleep);
}

/* ---- tables ---- */

static void put_header(struct strbuf *out, const char *signature, unsigned int revision)
{
	strbuf_append(out, signature, 4);
	put32(out, 0); /* size and checksum: table_finish() */
	put8(out, revision);
	put8(out, 0);
	strbuf_append(out, "BRUME BRUMEVMM", 14);
	put32(out, 1);
	strbuf_append(out, "BRUM", 4);
	put32(out, 1);
}

static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = (uint8_t) (sum + bytes[i]);
	return (uint8_t) -sum;
}

/* Appends a table to all of them; returns its address. */
static gpa_t table_finish(struct strbuf *all, struct strbuf *table)
{
	static const uint8_t zeros[ALIGN];
	uint32_t size = (uint32_t) table->size;
	gpa_t at;

	strbuf_append(all, zeros, -all->size % ALIGN);
	at = LAYOUT_RSDP + all->size;
	memcpy(table->data + 4, &size, sizeof(size));
	table->data[9] = 0;
	table->data[9] = (char) checksum(table->data, table->size);
	strbuf_append(all, table->data, table->size);
	strbuf_done(table);
	return at;
}

static void put_gas(struct strbuf *out, unsigned int space, uint64_t address)
{
	put8(out, space);
	put8(out, 8); /* bits */
	put8(out, 0);
	put8(out, 1); /* access by bytes */
	put64(out, address);
}

static void pad_to(struct strbuf *out, size_t size)
{
	while (out->size < size)
		put8(out, 0);
}

static void put_fadt(struct strbuf *out, gpa_t dsdt)
{
	put_header(out, "FACP", 6);
	put32(out, 0);
	put32(out, (uint32_t) dsdt);
	pad_to(out, 109);
	/* No VGA, no ASPM, no CMOS clock, no 8042: nobody looks for them. */
	put16(out, 1 << 2 | 1 << 4 | 1 << 5);
	pad_to(out, 112);
	/* WBINVD, C1, power and sleep button are no fixed hardware, a reset register, reduced. */
	put32(out, 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
	put_gas(out, SPACE_IO, LAYOUT_PORT_SLEEP + 2);
	put8(out, 1); /* the value that resets */
	pad_to(out, 140);
	put64(out, dsdt);
	pad_to(out, 244);
	put_gas(out, SPACE_IO, LAYOUT_PORT_SLEEP);
	put_gas(out, SPACE_IO, LAYOUT_PORT_SLEEP + 1);
	strbuf_append(out, "BRUME\0\0\0", 8);
}

static void put_madt(struct strbuf *out, unsigned int cpus)
{
	put_header(out, "APIC", 5);
	put32(out, LAYOUT_LAPIC);
	put32(out, 0);
	for (unsigned int i = 0; i < cpus; i++) {
		put8(out, 0);
		put8(out, 8);
		put8(out, i);
		put8(out, i);
		put32(out, 1);
	}
	put8(out, 1);
	put8(out, 12);
	put8(out, 0);
	put8(out, 0);
	put32(out, LAYOUT_IOAPIC);
	put32(out, 0);
}

static void put_mcfg(struct strbuf *out)
{
	put_header(out, "MCFG", 1);
	put64(out, 0);
	put64(out, LAYOUT_PCI_ECAM);
	put16(out, 0);
	put8(out, 0);
	put8(out, 0);
	put32(out, 0);
}

static void write_rsdp(struct strbuf *all, gpa_t xsdt)
{
	struct strbuf rsdp = {};
	uint8_t sum;

	strbuf_append(&rsdp, "RSD PTR \0BRUME \2", 16);
	put32(&rsdp, 0);
	put32(&rsdp, 36);
	put64(&rsdp, xsdt);
	put32(&rsdp, 0);
	sum = checksum(rsdp.data, 20);
	rsdp.data[8] = (char) sum;
	sum = checksum(rsdp.data, 36);
	rsdp.data[32] = (char) sum;
	memcpy(all->data, rsdp.data, 36);
	strbuf_done(&rsdp);
}

int acpi_write(const struct guest_memory *memory, const struct acpi_options *options,
	       struct error *err)
{
	AUTO(strbuf_done) struct strbuf all = {};
	struct strbuf table = {};
	gpa_t addresses[3];
	unsigned int count = 0;
	gpa_t at;

	pad_to(&all, HEADER_BYTES); /* the root pointer */
	put_header(&table, "DSDT", 2);
	put_definitions(&table, options);
	at = table_finish(&all, &table);
	put_fadt(&table, at);
	addresses[count++] = table_finish(&all, &table);
	put_madt(&table, options->cpus);
	addresses[count++] = table_finish(&all, &table);
	if (options->pci) {
		put_mcfg(&table);
		addresses[count++] = table_finish(&all, &table);
	}
	put_header(&table, "XSDT", 1);
	for (unsigned int i = 0; i < count; i++)
		put64(&table, addresses[i]);
	at = table_finish(&all, &table);
	write_rsdp(&all, at);
	if (all.size > TABLES_BYTES ||
	    guest_memory_write(memory, LAYOUT_RSDP, all.data, all.size) < 0)
		return error_say(err, -ENOSPC, "no room for the ACPI tables");
	return 0;
}
