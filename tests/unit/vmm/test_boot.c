#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <asm/bootparam.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vmm/boot.h"
#include "vmm/loader.h"
#include "vmm/memory.h"

enum { ELF_BYTES = 8192, LOAD_AT = 0x1000000, LOAD_MEM = 0x200000 };

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t entry, pad;
	} note;
	char text[16];
};

/* A kernel of one segment, with the PVH note. */
static void make_elf(struct elf *elf)
{
	*elf = (struct elf){
		.header = { .e_type = ET_EXEC,
			    .e_machine = EM_X86_64,
			    .e_phoff = offsetof(struct elf, segments),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 2 },
		.segments = { { .p_type = PT_LOAD,
				.p_offset = offsetof(struct elf, text),
				.p_paddr = LOAD_AT,
				.p_filesz = sizeof(elf->text),
				.p_memsz = LOAD_MEM },
			      { .p_type = PT_NOTE,
				.p_offset = offsetof(struct elf, note),
				.p_filesz = sizeof(elf->note) } },
		.note = { .header = { 4, 8, 18 }, .name = "Xen", .entry = LOAD_AT + 4 },
		.text = "kernel text",
	};
	memcpy(elf->header.e_ident, ELFMAG, SELFMAG);
	elf->header.e_ident[EI_CLASS] = ELFCLASS64;
	elf->header.e_ident[EI_DATA] = ELFDATA2LSB;
}

static struct guest_memory *memory_of(uint64_t mib)
{
	struct guest_memory_options options = { .size_bytes = mib << 20, .fd = -1 };
	struct guest_memory *memory = NULL;

	assert_int_equal(guest_memory_new(&options, &memory, NULL), 0);
	return memory;
}

static int load(const struct elf *elf, size_t size, uint64_t mib, struct loader_kernel *ret,
		struct error *err)
{
	AUTO(guest_memory_free) struct guest_memory *memory = memory_of(mib);
	struct loader_source source = { .fd = -1, .data = elf, .size = size };
	int r = loader_elf(&source, memory, ret, err);

	if (r == 0)
		assert_string_equal(guest_memory_range(memory, LOAD_AT, 16), "kernel text");
	return r;
}

static void loads_an_elf(void **state)
{
	struct loader_kernel kernel;
	struct elf elf;

	(void) state;
	make_elf(&elf);
	assert_int_equal(load(&elf, sizeof(elf), 32, &kernel, NULL), 0);
	assert_int_equal(kernel.protocol, LOADER_PVH);
	assert_int_equal(kernel.entry, LOAD_AT + 4);
	assert_int_equal(kernel.end, LOAD_AT + LOAD_MEM);
}

static void refuses_what_is_no_kernel(void **state)
{
	struct loader_kernel kernel;
	struct error err = {};
	struct elf elf;

	(void) state;
	for (size_t size = 0; size < sizeof(elf); size++) {
		make_elf(&elf);
		assert_true(load(&elf, size, 32, &kernel, &err) < 0);
	}
	assert_string_equal(err.msg, "the kernel is cut off");
#define BAD(change, code, words)                                                                   \
	do {                                                                                       \
		make_elf(&elf);                                                                    \
		change;                                                                            \
		assert_int_equal(load(&elf, sizeof(elf), 32, &kernel, &err), code);                \
		assert_non_null(strstr(err.msg, words));                                           \
	} while (0)
	BAD(elf.header.e_ident[1] = 'X', -EBADMSG, "not a kernel");
	BAD(elf.header.e_ident[EI_CLASS] = 1, -EBADMSG, "x86-64");
	BAD(elf.header.e_machine = EM_AARCH64, -EBADMSG, "x86-64");
	BAD(elf.header.e_type = ET_DYN, -EBADMSG, "executable");
	BAD(elf.header.e_phnum = 0, -EBADMSG, "damaged");
	BAD(elf.header.e_phnum = 65535, -EBADMSG, "damaged");
	BAD(elf.header.e_phentsize = 1, -EBADMSG, "damaged");
	BAD(elf.header.e_phoff = UINT64_MAX, -EBADMSG, "cut off");
	BAD(elf.segments[1].p_offset = UINT64_MAX, -EBADMSG, "cut off");
	BAD(elf.note.header.n_type = 17, -ENOEXEC, "PVH");
	BAD(elf.note.header.n_namesz = UINT32_MAX, -ENOEXEC, "PVH");
	BAD(elf.note.header.n_descsz = UINT32_MAX, -ENOEXEC, "PVH");
	BAD(elf.note.header.n_descsz = 2, -ENOEXEC, "PVH");
	BAD(elf.note.entry = 0, -EBADMSG, "entry");
	BAD(elf.note.entry = LOAD_AT + LOAD_MEM, -EBADMSG, "entry");
	BAD(elf.segments[0].p_filesz = UINT64_MAX, -EBADMSG, "sizes");
	BAD(elf.segments[0].p_paddr = 0x1000, -EBADMSG, "below 1 MiB");
	BAD(elf.segments[0].p_paddr = UINT64_MAX, -ENOSPC, "memory");
	BAD(elf.segments[0].p_memsz = UINT64_MAX, -ENOSPC, "memory");
	BAD(elf.segments[0].p_offset = UINT64_MAX, -EBADMSG, "cut off");
	make_elf(&elf);
	assert_int_equal(load(&elf, sizeof(elf), 17, &kernel, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "17 MiB"));
}

static int file_of(const void *data, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	return fd;
}

/* A bzImage whose payload nobody can unwrap: it must unpack itself. */
static size_t make_packed(uint8_t *image)
{
	enum { SETUP = 2 * 512, SIZE = 4096 };
	struct setup_header *header = (struct setup_header *) (image + 0x1f1);

	memset(image, 0, SIZE);
	header->setup_sects = SETUP / 512 - 1;
	header->boot_flag = 0xaa55;
	header->jump = 0x6aeb;
	header->header = 0x53726448; /* HdrS */
	header->version = 0x20f;
	header->xloadflags = 1;
	header->pref_address = 0x1000000;
	header->init_size = 0x300000;
	header->relocatable_kernel = 1;
	header->kernel_alignment = 0x200000;
	header->cmdline_size = 2047;
	header->initrd_addr_max = 0x7fffffff;
	header->payload_offset = 64;
	header->payload_length = 256;
	memcpy(image + SETUP, "packed", 6);
	return SIZE;
}

static void boots_an_elf(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = memory_of(64);
	AUTO(fd_close) int kernel_fd = -1;
	AUTO(fd_close) int first = file_of("first", 5);
	AUTO(fd_close) int second = file_of("second", 6);
	struct boot_options options = { .initrd_fds = { first, second },
					.initrd_count = 2,
					.command_line = "hello world" };
	struct boot_entry entry;
	struct kvm_sregs sregs = {};
	struct kvm_regs regs;
	const uint64_t *info;
	const char *initrd;
	struct elf elf;

	(void) state;
	make_elf(&elf);
	kernel_fd = options.kernel_fd = file_of(&elf, sizeof(elf));
	assert_int_equal(boot_load(memory, &options, &entry, NULL), 0);
	assert_int_equal(entry.entry, LOAD_AT + 4);
	assert_int_equal(entry.argument, LAYOUT_PVH_START_INFO);
	assert_string_equal(guest_memory_range(memory, LAYOUT_COMMAND_LINE, 16), "hello world");
	info = guest_memory_range(memory, entry.argument, 256);
	assert_int_equal((uint32_t) info[0], 0x336ec578);
	assert_int_equal(info[3], LAYOUT_COMMAND_LINE);
	assert_int_equal(info[4], LAYOUT_RSDP);
	const uint64_t *module = guest_memory_range(memory, info[2], 32);
	assert_int_equal(module[1], 8 + 6);
	assert_int_equal(module[0] % 4096, 0);
	initrd = guest_memory_range(memory, module[0], module[1]);
	assert_memory_equal(initrd, "first\0\0\0second", 14);
	/* The memory map: all of it once, the tables not. */
	const uint64_t *map = guest_memory_range(memory, info[5], 4 * 24);
	assert_int_equal(map[0], 0);
	assert_int_equal(map[1], LAYOUT_EBDA);
	assert_int_equal(map[6], LAYOUT_KERNEL);
	assert_int_equal(map[7], (64 << 20) - LAYOUT_KERNEL);
	boot_registers(&entry, &regs, &sregs);
	assert_int_equal(regs.rbx, entry.argument);
	assert_int_equal(sregs.cr0 & 0x80000001, 1);
	assert_false(boot_was_panic(memory));
	uint16_t warm = 0x1234;
	guest_memory_write(memory, 0x472, &warm, 2);
	assert_true(boot_was_panic(memory));
}

static void boots_what_unpacks_itself(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = memory_of(64);
	uint8_t image[4096];
	AUTO(fd_close) int kernel_fd = file_of(image, make_packed(image));
	struct boot_options options = { .kernel_fd = kernel_fd, .command_line = "x" };
	const struct boot_params *params;
	struct kvm_sregs sregs = {};
	struct boot_entry entry;
	struct kvm_regs regs;

	(void) state;
	assert_int_equal(pwrite(kernel_fd, image, sizeof(image), 0), sizeof(image));
	assert_int_equal(boot_load(memory, &options, &entry, NULL), 0);
	assert_int_equal(entry.protocol, LOADER_LINUX64);
	assert_int_equal(entry.entry, 0x1000200);
	assert_memory_equal(guest_memory_range(memory, 0x1000000, 6), "packed", 6);
	params = guest_memory_range(memory, entry.argument, sizeof(*params));
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.cmd_line_ptr, LAYOUT_COMMAND_LINE);
	assert_int_equal(params->acpi_rsdp_addr, LAYOUT_RSDP);
	assert_int_equal(params->e820_entries, 4);
	boot_registers(&entry, &regs, &sregs);
	assert_int_equal(regs.rsi, entry.argument);
	assert_int_equal(sregs.efer, 0x500);
	const uint64_t *tables = guest_memory_range(memory, LAYOUT_PAGE_TABLES, 3 * 4096);
	assert_int_equal(tables[0], (LAYOUT_PAGE_TABLES + 4096) | 3);
	assert_int_equal(tables[1024 + 5], 5 << 21 | 0x83);

	struct setup_header *header = (struct setup_header *) (image + 0x1f1);
	struct loader_kernel kernel;
	struct error err = {};
	header->pref_address = 0x1000;
	assert_int_equal(loader_bzimage(image, sizeof(image), memory, &kernel, &err), -EBADMSG);
	header->pref_address = UINT64_MAX;
	assert_int_equal(loader_bzimage(image, sizeof(image), memory, &kernel, &err), -EBADMSG);
	header->pref_address = 0x2000000;
	header->init_size = 0x3000000;
	assert_int_equal(loader_bzimage(image, sizeof(image), memory, &kernel, &err), -ENOSPC);
	make_packed(image);
	header->xloadflags = 0;
	assert_int_equal(loader_bzimage(image, sizeof(image), memory, &kernel, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "64-bit"));
}

static void says_what_does_not_fit(void **state)
{
	AUTO(guest_memory_free) struct guest_memory *memory = memory_of(32);
	AUTO(fd_close) int big = memfd_create("big", MFD_CLOEXEC);
	AUTO(fd_close) int kernel_fd = -1;
	struct boot_options options = { .initrd_fds = { big },
					.initrd_count = 1,
					.command_line = "" };
	char line[LAYOUT_COMMAND_LINE_MAX + 1];
	struct boot_entry entry;
	struct error err = {};
	struct elf elf;

	(void) state;
	make_elf(&elf);
	kernel_fd = options.kernel_fd = file_of(&elf, sizeof(elf));
	assert_int_equal(ftruncate(big, 16 << 20), 0);
	assert_int_equal(boot_load(memory, &options, &entry, &err), -ENOSPC);
	assert_string_equal(err.msg, "kernel and initramfs need 35 MiB, the guest has 32 MiB");
	assert_int_equal(ftruncate(big, 1ll << 40), 0);
	assert_int_equal(boot_load(memory, &options, &entry, &err), -ENOSPC);
	options.initrd_count = 0;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	options.command_line = line;
	assert_int_equal(boot_load(memory, &options, &entry, &err), -E2BIG);
	options.command_line = "";
	assert_int_equal(ftruncate(kernel_fd, 3), 0);
	assert_int_equal(boot_load(memory, &options, &entry, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_an_elf),
		cmocka_unit_test(refuses_what_is_no_kernel),
		cmocka_unit_test(boots_an_elf),
		cmocka_unit_test(boots_what_unpacks_itself),
		cmocka_unit_test(says_what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
