#include "vmm/boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "vmm/memory.h"

/* Xen's struct hvm_start_info and friends (docs/misc/pvh.pandoc). */
struct pvh_start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};

struct pvh_module {
	uint64_t start, size, command_line, reserved;
};

struct pvh_map_entry {
	uint64_t start, size;
	uint32_t type, reserved;
};

enum {
	PVH_MAGIC = 0x336ec578,
	PVH_MODULES = 0x80, /* behind the start of LAYOUT_PVH_START_INFO */
	PVH_MAP = 0x100,
	MAP_MAX = 8,
	TYPE_RAM = 1,
	TYPE_RESERVED = 2,
	ALIGN_INITRD = 4,
	PAGE_BYTES = 4096,
	RESET_FLAG = 0x472,
	RESET_WARM = 0x1234,
};

struct initrd {
	gpa_t start;
	uint64_t size;
};

static unsigned int make_map(const struct guest_memory *memory, struct pvh_map_entry *map)
{
	const struct guest_memory_range *ranges;
	unsigned int ranges_count, n = 0;

	ranges = guest_memory_ranges(memory, &ranges_count);
	map[n++] = (struct pvh_map_entry){ 0, LAYOUT_EBDA, TYPE_RAM, 0 };
	map[n++] = (struct pvh_map_entry){ LAYOUT_EBDA, LAYOUT_KERNEL - LAYOUT_EBDA, TYPE_RESERVED,
					   0 };
	map[n++] = (struct pvh_map_entry){ LAYOUT_KERNEL, ranges[0].size_bytes - LAYOUT_KERNEL,
					   TYPE_RAM, 0 };
	map[n++] =
		(struct pvh_map_entry){ LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM_SIZE, TYPE_RESERVED, 0 };
	if (ranges_count > 1)
		map[n++] = (struct pvh_map_entry){ ranges[1].start, ranges[1].size_bytes, TYPE_RAM,
						   0 };
	return n;
}

static int file_size(int fd, uint64_t *ret, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "the initramfs");
	if (!S_ISREG(st.st_mode))
		return error_say(err, -EINVAL, "the initramfs must be a regular file");
	*ret = (uint64_t) st.st_size;
	return 0;
}

/* As high as it may be below the hole, so that it is in nobody's way. */
static int load_initrd(const struct guest_memory *memory, const struct boot_options *options,
		       const struct loader_kernel *kernel, struct initrd *ret, struct error *err)
{
	unsigned int ranges_count;
	uint64_t sizes[BOOT_INITRDS_MAX], total = 0, end, offset = 0;
	gpa_t start;
	int r;

	for (unsigned int i = 0; i < options->initrd_count; i++) {
		r = file_size(options->initrd_fds[i], &sizes[i], err);
		if (r < 0)
			return r;
		if (sizes[i] > guest_memory_size(memory))
			return error_say(err, -ENOSPC,
					 "the initramfs is larger than the guest's memory");
		total = (total + ALIGN_INITRD - 1) / ALIGN_INITRD * ALIGN_INITRD + sizes[i];
	}
	*ret = (struct initrd){};
	if (total == 0)
		return 0;
	end = guest_memory_ranges(memory, &ranges_count)[0].size_bytes;
	if (end > kernel->initrd_max)
		end = kernel->initrd_max + 1;
	if (total > end || (start = (end - total) & ~(uint64_t) (PAGE_BYTES - 1)) < kernel->end)
		return error_say(err, -ENOSPC,
				 "kernel and initramfs need %llu MiB, the guest has %llu MiB",
				 (unsigned long long) (kernel->end + total + (1 << 20)) >> 20,
				 (unsigned long long) guest_memory_size(memory) >> 20);
	for (unsigned int i = 0; i < options->initrd_count; i++) {
		struct loader_source source = { .fd = options->initrd_fds[i], .size = sizes[i] };

		offset = (offset + ALIGN_INITRD - 1) / ALIGN_INITRD * ALIGN_INITRD;
		r = loader_source_read(
			&source, 0, guest_memory_range(memory, start + offset, sizes[i]), sizes[i]);
		if (r < 0)
			return error_set(err, r, "reading the initramfs");
		offset += sizes[i];
	}
	ret->start = start;
	ret->size = total;
	return 0;
}

static int write_pvh(const struct guest_memory *memory, const struct initrd *initrd)
{
	struct pvh_map_entry map[MAP_MAX];
	struct pvh_module module = { .start = initrd->start, .size = initrd->size };
	struct pvh_start_info info = {
		.magic = PVH_MAGIC,
		.version = 1,
		.module_count = initrd->size > 0,
		.modules = initrd->size > 0 ? LAYOUT_PVH_START_INFO + PVH_MODULES : 0,
		.command_line = LAYOUT_COMMAND_LINE,
		.rsdp = LAYOUT_RSDP,
		.memory_map = LAYOUT_PVH_START_INFO + PVH_MAP,
	};
	int r;

	info.memory_map_entries = make_map(memory, map);
	r = guest_memory_write(memory, LAYOUT_PVH_START_INFO, &info, sizeof(info));
	if (r == 0)
		r = guest_memory_write(memory, LAYOUT_PVH_START_INFO + PVH_MODULES, &module,
				       sizeof(module));
	if (r == 0)
		r = guest_memory_write(memory, LAYOUT_PVH_START_INFO + PVH_MAP, map,
				       info.memory_map_entries * sizeof(map[0]));
	return r;
}

/* The first GiB by pages of 2 MiB, where it is. */
static int write_page_tables(const struct guest_memory *memory)
{
	uint64_t entry = (LAYOUT_PAGE_TABLES + PAGE_BYTES) | 3;
	int r = guest_memory_write(memory, LAYOUT_PAGE_TABLES, &entry, sizeof(entry));

	entry = (LAYOUT_PAGE_TABLES + 2 * PAGE_BYTES) | 3;
	if (r == 0)
		r = guest_memory_write(memory, LAYOUT_PAGE_TABLES + PAGE_BYTES, &entry,
				       sizeof(entry));
	for (uint64_t i = 0; r == 0 && i < 512; i++) {
		entry = i << 21 | 0x83;
		r = guest_memory_write(memory,
				       LAYOUT_PAGE_TABLES + 2 * PAGE_BYTES + i * sizeof(entry),
				       &entry, sizeof(entry));
	}
	return r;
}

static int write_linux64(const struct guest_memory *memory, const struct loader_kernel *kernel,
			 const struct initrd *initrd, const char *command_line)
{
	struct boot_params params = {};
	struct pvh_map_entry map[MAP_MAX];
	size_t size =
		kernel->header_size < sizeof(params.hdr) ? kernel->header_size : sizeof(params.hdr);
	int r;

	memcpy(&params.hdr, kernel->header, size);
	params.hdr.type_of_loader = 0xff;
	params.hdr.cmd_line_ptr = LAYOUT_COMMAND_LINE;
	params.hdr.cmdline_size = (uint32_t) strlen(command_line);
	params.hdr.ramdisk_image = (uint32_t) initrd->start;
	params.hdr.ramdisk_size = (uint32_t) initrd->size;
	params.acpi_rsdp_addr = LAYOUT_RSDP;
	params.e820_entries = (uint8_t) make_map(memory, map);
	for (unsigned int i = 0; i < params.e820_entries; i++) {
		params.e820_table[i].addr = map[i].start;
		params.e820_table[i].size = map[i].size;
		params.e820_table[i].type = map[i].type;
	}
	r = guest_memory_write(memory, LAYOUT_ZERO_PAGE, &params, sizeof(params));
	return r == 0 ? write_page_tables(memory) : r;
}

/* Null, unused, 64-bit or 32-bit code, data, and a task segment, as the protocols want them. */
static int write_gdt(const struct guest_memory *memory, enum loader_protocol protocol)
{
	uint64_t gdt[5] = { 0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull,
			    0x00008b0000000067ull };

	if (protocol == LOADER_PVH)
		gdt[2] = 0x00cf9b000000ffffull;
	return guest_memory_write(memory, LAYOUT_GDT, gdt, sizeof(gdt));
}

int boot_load(const struct guest_memory *memory, const struct boot_options *options,
	      struct boot_entry *ret, struct error *err)
{
	struct loader_kernel kernel;
	struct initrd initrd;
	int r = loader_kernel_file(options->kernel_fd, memory, &kernel, err);

	if (r < 0)
		return r;
	if (strlen(options->command_line) > kernel.command_line_max)
		return error_say(err, -E2BIG,
				 "the kernel's command line has %zu characters, at most %zu are "
				 "allowed",
				 strlen(options->command_line), kernel.command_line_max);
	r = load_initrd(memory, options, &kernel, &initrd, err);
	if (r < 0)
		return r;
	r = guest_memory_write(memory, LAYOUT_COMMAND_LINE, options->command_line,
			       strlen(options->command_line) + 1);
	if (r == 0)
		r = write_gdt(memory, kernel.protocol);
	if (r == 0 && kernel.protocol == LOADER_PVH)
		r = write_pvh(memory, &initrd);
	else if (r == 0)
		r = write_linux64(memory, &kernel, &initrd, options->command_line);
	if (r < 0)
		return error_set(err, r, "writing the tables for the kernel");
	ret->protocol = kernel.protocol;
	ret->entry = kernel.entry;
	ret->argument = kernel.protocol == LOADER_PVH ? LAYOUT_PVH_START_INFO : LAYOUT_ZERO_PAGE;
	return 0;
}

static struct kvm_segment segment(unsigned int index, unsigned int type, bool code64)
{
	return (struct kvm_segment){
		.selector = (uint16_t) (index * 8),
		.limit = 0xffffffff,
		.type = (uint8_t) type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !code64,
		.l = code64,
	};
}

void boot_registers(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	bool long_mode = entry->protocol == LOADER_LINUX64;

	sregs->gdt.base = LAYOUT_GDT;
	sregs->gdt.limit = 5 * 8 - 1;
	sregs->cs = segment(2, 11, long_mode);
	sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = segment(3, 3, false);
	sregs->tr =
		(struct kvm_segment){ .selector = 4 * 8, .limit = 0x67, .type = 11, .present = 1 };
	sregs->cr0 = 0x11; /* protected mode */
	sregs->cr4 = 0;
	if (long_mode) {
		sregs->cr3 = LAYOUT_PAGE_TABLES;
		sregs->cr4 = 0x20;        /* PAE */
		sregs->cr0 |= 0x80000000; /* paging */
		sregs->efer = 0x500;      /* long mode, active */
	}
	memset(regs, 0, sizeof(*regs));
	regs->rflags = 2;
	regs->rip = entry->entry;
	if (long_mode)
		regs->rsi = entry->argument;
	else
		regs->rbx = entry->argument;
}

int boot_was_panic(const struct guest_memory *memory)
{
	uint16_t mode = 0;

	return guest_memory_read(memory, RESET_FLAG, &mode, sizeof(mode)) == 0 &&
	       mode == RESET_WARM;
}
