#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/loader.h"
#include "vmm/memory.h"

enum {
	SEGMENTS_MAX = 64,
	NOTES_MAX_BYTES = 64 * 1024,
	NOTE_PHYS32_ENTRY = 18, /* XEN_ELFNOTE_PHYS32_ENTRY */
};

int loader_source_read(const struct loader_source *source, uint64_t offset, void *data, size_t size)
{
	size_t done = 0;

	if (offset > source->size || size > source->size - offset)
		return -EIO;
	if (source->fd < 0) {
		memcpy(data, (const char *) source->data + offset, size);
		return 0;
	}
	while (done < size) {
		ssize_t n = pread(source->fd, (char *) data + done, size - done,
				  (off_t) (offset + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		if (n > 0)
			done += (size_t) n;
	}
	return 0;
}

int loader_source_load(const struct loader_source *source, uint64_t offset, uint64_t size,
		       const struct guest_memory *memory, gpa_t address)
{
	if (offset > source->size || size > source->size - offset)
		return -EIO;
	if (source->fd < 0)
		return guest_memory_write(memory, address, (const char *) source->data + offset,
					  size);
	return guest_memory_load(memory, address, source->fd, offset, size);
}

static size_t align4(size_t size)
{
	return (size + 3) & ~(size_t) 3;
}

/* Looks for the entry in one segment of notes. */
static int find_entry(const struct loader_source *source, const Elf64_Phdr *segment,
		      gpa_t *ret_entry)
{
	char notes[NOTES_MAX_BYTES];
	size_t size = segment->p_filesz < sizeof(notes) ? segment->p_filesz : sizeof(notes);
	size_t at = 0;
	int r = loader_source_read(source, segment->p_offset, notes, size);

	if (r < 0)
		return r;
	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name, body;

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		name = at;
		if (align4(note.n_namesz) > size - at)
			break;
		at += align4(note.n_namesz);
		body = at;
		if (align4(note.n_descsz) > size - at)
			break;
		at += align4(note.n_descsz);
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
		    memcmp(notes + name, "Xen", 4) == 0 && note.n_descsz >= 4) {
			uint32_t entry;

			memcpy(&entry, notes + body, sizeof(entry));
			*ret_entry = entry;
			return 1;
		}
	}
	return 0;
}

static int load_segment(const struct loader_source *source, const Elf64_Phdr *segment,
			const struct guest_memory *memory, struct loader_kernel *kernel,
			struct error *err)
{
	gpa_t at = segment->p_paddr;
	int r;

	if (segment->p_filesz > segment->p_memsz)
		return error_say(err, -EBADMSG, "the kernel is damaged: a segment's sizes");
	if (segment->p_memsz == 0)
		return 0;
	if (at < LAYOUT_KERNEL)
		return error_say(
			err, -EBADMSG,
			"the kernel wants to be below 1 MiB, where the machine's tables are");
	if (!guest_memory_range(memory, at, segment->p_memsz))
		return error_say(err, -ENOSPC,
				 "the kernel needs memory up to %llu MiB, the guest has %llu MiB",
				 (unsigned long long) (at + segment->p_memsz) >> 20,
				 (unsigned long long) guest_memory_size(memory) >> 20);
	r = loader_source_load(source, segment->p_offset, segment->p_filesz, memory, at);
	if (r == -EIO)
		return error_say(err, -EBADMSG, "the kernel is cut off");
	if (r < 0)
		return error_set(err, r, "reading the kernel");
	/* The rest is zero already: memory is new. */
	if (at + segment->p_memsz > kernel->end)
		kernel->end = at + segment->p_memsz;
	return 0;
}

static int check_header(const Elf64_Ehdr *header, struct error *err)
{
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		return error_say(err, -EBADMSG, "not a kernel: neither an ELF nor a bzImage");
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_machine != EM_X86_64 || header->e_type != ET_EXEC)
		return error_say(err, -EBADMSG,
				 "not a kernel of this machine: an executable of x86-64 is needed");
	if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
	    header->e_phnum > SEGMENTS_MAX)
		return error_say(err, -EBADMSG, "the kernel is damaged: its program headers");
	return 0;
}

int loader_elf(const struct loader_source *source, const struct guest_memory *memory,
	       struct loader_kernel *ret, struct error *err)
{
	struct loader_kernel kernel = {
		.protocol = LOADER_PVH,
		.initrd_max = UINT32_MAX,
		.command_line_max = LAYOUT_COMMAND_LINE_MAX - 1,
	};
	Elf64_Phdr segments[SEGMENTS_MAX];
	Elf64_Ehdr header;
	int r, found = 0;

	r = loader_source_read(source, 0, &header, sizeof(header));
	if (r < 0)
		return error_say(err, -EBADMSG, "not a kernel: too short");
	r = check_header(&header, err);
	if (r < 0)
		return r;
	r = loader_source_read(source, header.e_phoff, segments,
			       header.e_phnum * sizeof(segments[0]));
	for (unsigned int i = 0; r == 0 && !found && i < header.e_phnum; i++) {
		if (segments[i].p_type == PT_NOTE) {
			found = find_entry(source, &segments[i], &kernel.entry);
			r = found < 0 ? found : 0;
		}
	}
	if (r < 0)
		return error_say(err, -EBADMSG, "the kernel is cut off");
	if (!found)
		return error_say(err, -ENOEXEC,
				 "the kernel has no PVH entry (CONFIG_PVH): give its bzImage");
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		if (segments[i].p_type != PT_LOAD)
			continue;
		r = load_segment(source, &segments[i], memory, &kernel, err);
		if (r < 0)
			return r;
	}
	if (kernel.entry < LAYOUT_KERNEL || kernel.entry >= kernel.end)
		return error_say(err, -EBADMSG, "the kernel is damaged: its entry lies outside");
	*ret = kernel;
	return 0;
}
