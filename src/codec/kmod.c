#include "codec/kmod.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

enum { DEPENDS_MAX = 4096 };

/* A section's bytes, borrowed; NULL when the file does not have it where it says. */
static const char *section_data(const char *data, size_t size, const Elf64_Shdr *section)
{
	if (section->sh_type == SHT_NOBITS || section->sh_offset > size ||
	    section->sh_size > size - section->sh_offset)
		return NULL;
	return data + section->sh_offset;
}

static bool read_section(const char *data, size_t size, const Elf64_Ehdr *header, size_t index,
			 Elf64_Shdr *ret)
{
	uint64_t offset = header->e_shoff + index * sizeof(*ret);

	if (header->e_shoff > size || offset > size || size - offset < sizeof(*ret))
		return false;
	memcpy(ret, data + offset, sizeof(*ret));
	return true;
}

/* .modinfo: "NAME=value" texts, one after the other, each ended by NUL. */
static const char *find_modinfo(const char *data, size_t size, size_t *ret_size)
{
	Elf64_Ehdr header;
	Elf64_Shdr names, section;
	const char *name_data;

	if (size < sizeof(header))
		return NULL;
	memcpy(&header, data, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_type != ET_REL ||
	    header.e_shentsize != sizeof(section) ||
	    !read_section(data, size, &header, header.e_shstrndx, &names))
		return NULL;
	name_data = section_data(data, size, &names);
	for (size_t i = 0; name_data && i < header.e_shnum; i++) {
		static const char wanted[] = ".modinfo";

		if (!read_section(data, size, &header, i, &section))
			return NULL;
		if (section.sh_name >= names.sh_size ||
		    names.sh_size - section.sh_name < sizeof(wanted) ||
		    memcmp(name_data + section.sh_name, wanted, sizeof(wanted)) != 0)
			continue;
		*ret_size = section.sh_size;
		return section_data(data, size, &section);
	}
	return NULL;
}

static char **split(const char *value, size_t size)
{
	AUTO(free) char *copy = mem_strndup(value, size);
	char *rest = copy, *word;
	char **list = NULL;

	while ((word = strsep(&rest, ","))) {
		for (char *p = word; *p; p++)
			*p = *p == '-' ? '_' : *p;
		if (word[0])
			strv_append(&list, word);
	}
	return list;
}

int kmod_depends(const void *data, size_t size, char ***ret, struct error *err)
{
	static const char key[] = "depends=";
	size_t info_size = 0;
	const char *info = find_modinfo(data, size, &info_size);

	if (!info)
		return error_say(err, -EBADMSG, "not a kernel module");
	for (size_t i = 0; i < info_size;) {
		size_t n = strnlen(info + i, info_size - i);

		if (n >= strlen(key) && memcmp(info + i, key, strlen(key)) == 0) {
			if (n > DEPENDS_MAX)
				return error_say(err, -EBADMSG, "a module that needs too many");
			*ret = split(info + i + strlen(key), n - strlen(key));
			return 0;
		}
		i += n + 1;
	}
	*ret = NULL;
	return 0;
}
