#include "codec/kmod.h"

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/strv.h"

enum { FILE_SIZE = 1024, NAMES_AT = 512, INFO_AT = 600 };

/* An ELF with three sections: none, the names, and .modinfo with `info`. */
static void make_module(uint8_t *file, const char *info, size_t info_size)
{
	static const char names[] = "\0.shstrtab\0.modinfo";
	Elf64_Ehdr header = { .e_type = ET_REL,
			      .e_shoff = sizeof(header),
			      .e_shentsize = sizeof(Elf64_Shdr),
			      .e_shnum = 3,
			      .e_shstrndx = 1 };
	Elf64_Shdr sections[3] = {
		{},
		{ .sh_name = 1,
		  .sh_type = SHT_STRTAB,
		  .sh_offset = NAMES_AT,
		  .sh_size = sizeof(names) },
		{ .sh_name = 11,
		  .sh_type = SHT_PROGBITS,
		  .sh_offset = INFO_AT,
		  .sh_size = info_size },
	};

	memset(file, 0, FILE_SIZE);
	memcpy(header.e_ident, ELFMAG, SELFMAG);
	header.e_ident[EI_CLASS] = ELFCLASS64;
	memcpy(file, &header, sizeof(header));
	memcpy(file + sizeof(header), sections, sizeof(sections));
	memcpy(file + NAMES_AT, names, sizeof(names));
	memcpy(file + INFO_AT, info, info_size);
}

static void test_depends(void **test_state)
{
	static const char info[] = "license=GPL\0depends=virtio-ring,virtio\0name=x";
	AUTO(strv_free) char **depends = NULL;
	uint8_t file[FILE_SIZE];

	(void) test_state;
	make_module(file, info, sizeof(info));
	assert_int_equal(kmod_depends(file, sizeof(file), &depends, NULL), 0);
	assert_int_equal(strv_count(depends), 2);
	assert_string_equal(depends[0], "virtio_ring");
	assert_string_equal(depends[1], "virtio");
}

static void test_none(void **test_state)
{
	char **depends = (char **) 1;
	uint8_t file[FILE_SIZE];

	(void) test_state;
	make_module(file, "depends=", 9);
	assert_int_equal(kmod_depends(file, sizeof(file), &depends, NULL), 0);
	assert_null(depends);
	make_module(file, "name=x", 7);
	depends = (char **) 1;
	assert_int_equal(kmod_depends(file, sizeof(file), &depends, NULL), 0);
	assert_null(depends);
}

/* Every byte damaged in turn, and every length: an answer or a refusal, nothing else. */
static void test_damaged(void **test_state)
{
	static const char info[] = "depends=a,b";
	uint8_t file[FILE_SIZE];

	(void) test_state;
	for (size_t i = 0; i < NAMES_AT + 32; i++) {
		char **depends = NULL;

		make_module(file, info, sizeof(info));
		file[i] ^= 0xff;
		(void) kmod_depends(file, sizeof(file), &depends, NULL);
		strv_free(depends);
	}
	make_module(file, info, sizeof(info));
	for (size_t i = 0; i < INFO_AT; i++) {
		char **depends = NULL;

		assert_int_equal(kmod_depends(file, i, &depends, NULL), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_depends),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
