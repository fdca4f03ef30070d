#include "vmm/acpi.h"

#include <errno.h>
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
	} else {
		put8(out, 0x40 | ((size + 2) & 0xf));
		put8(out, (unsigned int) ((size + 2) >> 4));
	}
}

/* An opcode (one or two bytes) with a package of `body`, which is freed. */
static void put_package(struct strbuf *out, unsigned int opcode, struct strbuf *body)
{
	if (opcode > 0xff)
		put8(out, opcode >> 8);
	put8(out, opcode);
	put_length(out, body->size);
	strbuf_append(out, strbuf_str(body), body->size);
	strbuf_done(body);
}

static void put_integer(struct strbuf *out, uint32_t value)
{
	if (value < 2) {
		put8(out, value);
	} else {
		put8(out, 0x0c);
		put32(out, value);
	}
}

static void put_name(struct strbuf *out, const char *name)
{
	put8(out, 0x08);
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
	put8(out, 0x0c);
	put32(out, __builtin_bswap32(value));
}

/* A name with a buffer of resource descriptors, which are freed. */
static void put_resources(struct strbuf *out, struct strbuf *resources)
{
	struct strbuf body = {};

	put16(resources, 0x0079); /* end tag */
	put8(&body, 0x0a);
	put8(&body, (unsigned int) resources->size);
	strbuf_append(&body, strbuf_str(resources), resources->size);
	strbuf_done(resources);
	put_name(out, "_CRS");
	put_package(out, 0x11, &body);
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

static void put_pci(struct strbuf *out)
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
	put_package(out, 0x5b82, &device);
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
	put_package(out, 0x5b82, &device);
}

/*
 * The power button: an event device whose method asks the register at LAYOUT_GED why it was called;
 * reading clears.
 */
static void put_events(struct strbuf *out)
{
	struct strbuf resources = {}, device = {}, field = {}, method = {}, condition = {};
	struct strbuf button = {};

	strbuf_puts(&button, "PWRB");
	put_name_eisa(&button, "_HID", "PNP0C0C");
	put_name_integer(&button, "_UID", 0);
	put_package(out, 0x5b82, &button);

	strbuf_puts(&device, "GED0");
	put_name(&device, "_HID");
	put8(&device, 0x0d);
	strbuf_append(&device, "ACPI0013", 9);
	put_name_integer(&device, "_UID", 0);
	put_interrupt(&resources, LAYOUT_GSI_GED);
	put_resources(&device, &resources);
	put8(&device, 0x5b); /* OperationRegion(GEDR, SystemMemory, LAYOUT_GED, 4) */
	put8(&device, 0x80);
	strbuf_puts(&device, "GEDR");
	put8(&device, SPACE_MEMORY);
	put_integer(&device, LAYOUT_GED);
	put_integer(&device, 4);
	strbuf_puts(&field, "GEDR"); /* Field(GEDR, DWordAcc, NoLock, WriteAsZeros) { GEDS, 32 } */
	put8(&field, 0x43);
	strbuf_puts(&field, "GEDS");
	put8(&field, 32);
	put_package(&device, 0x5b81, &field);

	strbuf_puts(&method, "_EVT");
	put8(&method, 0x09); /* one argument, serialized */
	put8(&method, 0x70); /* Store(GEDS, Local0) */
	strbuf_puts(&method, "GEDS");
	put8(&method, 0x60);
	put8(&condition, 0x7b); /* If (And(Local0, 1)) */
	put8(&condition, 0x60);
	put_integer(&condition, 1);
	put8(&condition, 0);
	put8(&condition, 0x86); /* Notify(PWRB, 0x80) */
	strbuf_puts(&condition, "PWRB");
	put8(&condition, 0x0a);
	put8(&condition, 0x80);
	put_package(&method, 0xa0, &condition);
	put_package(&device, 0x14, &method);
	put_package(out, 0x5b82, &device);
}

static void put_definitions(struct strbuf *out, const struct acpi_options *options)
{
	struct strbuf scope = {}, sleep = {};

	strbuf_puts(&scope, "\\_SB_");
	if (options->pci)
		put_pci(&scope);
	if (options->serial)
		put_serial(&scope);
	put_events(&scope);
	put_package(out, 0x10, &scope);
	put_name(out, "_S5_");
	put8(&sleep, 4);
	put8(&sleep, 0x0a);
	put8(&sleep, 5);
	put8(&sleep, 0);
	put8(&sleep, 0);
	put8(&sleep, 0);
	put_package(out, 0x12, &sleep);
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
