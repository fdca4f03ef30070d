/*
 * The worker that takes a kernel apart: a Debian package, a bzImage, an Image of arm64 or an ELF
 * becomes `vmlinux`, `bzImage` and `modules` in the folder that it holds.
 *
 * Packages are archives in archives, kernels and modules are compressed six ways: all of that is
 * read here, where nothing but that folder can be written.
 */
#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/arm64_image.h"
#include "codec/bzimage.h"
#include "image/kernel_internal.h"
#include "image/sandbox_internal.h"
#include "image/wire_internal.h"
#include "image/worker.h"
#include "image/worker_internal.h"

/* What a package may unpack to: twice what Debian's largest kernel has. */
enum { PACKAGE_BYTES_MAX = 2000 << 20, PIECE = 64 << 10, HOLE_BYTES = 64 << 10 };

DEFINE_AUTO(struct archive *, archive_read_free)

struct unpack {
	char *source; /* for messages */
	bool package;
	bool modules;  /* there is a folder of modules */
	bool versions; /* and it has one for each version */
	char *kernel;  /* the file that came */
	size_t kernel_size;
	char version[KERNEL_VERSION_SIZE];
	const char *architecture; /* OCI's */
	struct module_table *table;
	int tree_fd; /* where modules are */
	struct error *err;
};

static void unpack_done(struct unpack *unpack)
{
	fd_close(unpack->tree_fd);
	free(unpack->source);
	free(unpack->kernel);
	module_table_free(unpack->table);
}
static inline void unpack_done_autop(struct unpack *unpack)
{
	unpack_done(unpack);
}

/* -- a package ------------------------------------------------------------------------------------
 *
 * An ar archive with a compressed tar in it: libarchive reads the one through the other.
 */

struct member {
	struct archive *outer;
	char buffer[PIECE];
};

static la_ssize_t read_member(struct archive *archive, void *data, const void **ret)
{
	struct member *member = data;
	la_ssize_t n = archive_read_data(member->outer, member->buffer, sizeof(member->buffer));

	if (n < 0)
		archive_set_error(archive, EIO, "%s", archive_error_string(member->outer));
	*ret = member->buffer;
	return n;
}

static int damaged(struct unpack *unpack, struct archive *archive)
{
	return error_say(unpack->err, -EBADMSG, "the package is damaged: %.200s",
			 archive_error_string(archive));
}

/* The kernel is kept in memory, modules go to `all`, flat. */
static int take_entry(struct unpack *unpack, struct archive *tar, struct archive_entry *entry,
		      uint64_t *total)
{
	const char *name = archive_entry_pathname(entry);
	const char *slash = name ? strrchr(name, '/') : NULL;
	bool kernel = name && strstr(name, "boot/vmlinuz-");
	bool module = slash && strstr(name, "lib/modules/") && strstr(slash, ".ko");
	AUTO(strbuf_done) struct strbuf data = {};
	la_ssize_t n;

	if (archive_entry_filetype(entry) != AE_IFREG || (!kernel && !module))
		return 0;
	while ((n = archive_read_data(tar, strbuf_reserve(&data, PIECE), PIECE)) > 0) {
		strbuf_grown(&data, (size_t) n);
		*total += (uint64_t) n;
		if (data.size > BZIMAGE_MAX || *total > PACKAGE_BYTES_MAX)
			return error_say(unpack->err, -EFBIG, "the package is too large");
	}
	if (n < 0)
		return damaged(unpack, tar);
	if (kernel) {
		free(unpack->kernel);
		unpack->kernel_size = data.size;
		unpack->kernel = strbuf_take(&data);
		return 0;
	}
	int r = file_write_atomic(unpack->tree_fd, slash + 1, data.data, data.size, 0644, 0);

	if (r < 0)
		return error_set(unpack->err, r, "write the module %.80s", slash + 1);
	module_table_add(unpack->table, unpack->tree_fd, slash + 1);
	return 0;
}

static int read_tar(struct unpack *unpack, struct archive *outer)
{
	AUTO(archive_read_free) struct archive *tar = archive_read_new();
	AUTO(free) struct member *member = mem_new0(struct member);
	struct archive_entry *entry;
	uint64_t total = 0;
	int r;

	member->outer = outer;
	archive_read_support_format_tar(tar);
	archive_read_support_filter_xz(tar);
	archive_read_support_filter_zstd(tar);
	archive_read_support_filter_gzip(tar);
	archive_read_support_filter_bzip2(tar);
	archive_read_support_filter_lzma(tar);
	if (archive_read_open(tar, member, NULL, read_member, NULL) != ARCHIVE_OK)
		return damaged(unpack, tar);
	while ((r = archive_read_next_header(tar, &entry)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return damaged(unpack, tar);
		r = take_entry(unpack, tar, entry, &total);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_package(struct unpack *unpack)
{
	AUTO(archive_read_free) struct archive *outer = archive_read_new();
	struct archive_entry *entry;

	if (mkdirat(WORKER_JOB_FD, "all", 0700) < 0)
		return error_set(unpack->err, -errno, "make a folder for the modules");
	unpack->tree_fd =
		openat(WORKER_JOB_FD, "all", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (unpack->tree_fd < 0)
		return error_set(unpack->err, -errno, "the folder of the modules");
	archive_read_support_format_ar(outer);
	if (archive_read_open_fd(outer, WORKER_INPUT_FD, PIECE) != ARCHIVE_OK)
		return error_say(unpack->err, -EBADMSG, "%s: %.200s", unpack->source,
				 archive_error_string(outer));
	while (archive_read_next_header(outer, &entry) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(entry);

		if (name && strncmp(name, "data.tar", 8) == 0)
			return read_tar(unpack, outer);
	}
	return error_say(unpack->err, -EBADMSG, "%s is not a Debian package", unpack->source);
}

/* -- the kernel itself ------------------------------------------------------------------------ */

static int read_kernel(struct unpack *unpack)
{
	int r = unpack->package ? read_package(unpack)
				: file_read_fd(WORKER_INPUT_FD, BZIMAGE_MAX, &unpack->kernel,
					       &unpack->kernel_size);

	if (r < 0)
		return unpack->package ? r : error_set(unpack->err, r, "read %s", unpack->source);
	return unpack->kernel ? 0
			      : error_say(unpack->err, -EBADMSG,
					  "%s has no boot/vmlinuz-VERSION in it", unpack->source);
}

/* The version of an ELF and of an Image stands in their text. */
static void find_version(struct unpack *unpack, const char *vmlinux, size_t size)
{
	static const char key[] = "Linux version ";
	const char *at = memmem(vmlinux, size, key, strlen(key));
	size_t n = 0;

	if (!at)
		return;
	at += strlen(key);
	while (at + n < vmlinux + size && at[n] > ' ' && at[n] < 0x7f &&
	       n < sizeof(unpack->version) - 1)
		n++;
	memcpy(unpack->version, at, n);
	unpack->version[n] = '\0';
}

static int write_out(struct unpack *unpack, const char *name, const void *data, size_t size)
{
	int r = file_write_atomic(WORKER_JOB_FD, name, data, size, 0644, 0);

	return r < 0 ? error_set(unpack->err, r, "write %s", name) : 0;
}

/* A quarter of an unwrapped kernel is zeroes, which no machine then needs to be given. */
static void punch_zeroes(const char *name, const char *data, size_t size)
{
	static const char zeroes[HOLE_BYTES];
	AUTO(fd_close) int fd = openat(WORKER_JOB_FD, name, O_RDWR | O_CLOEXEC);

	for (size_t at = 0; fd >= 0 && at + HOLE_BYTES <= size; at += HOLE_BYTES)
		if (memcmp(data + at, zeroes, HOLE_BYTES) == 0 &&
		    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) at,
			      HOLE_BYTES) < 0)
			return;
}

static int write_vmlinux(struct unpack *unpack, const void *data, size_t size)
{
	int r = write_out(unpack, "vmlinux", data, size);

	if (r == 0)
		punch_zeroes("vmlinux", data, size);
	return r;
}

static int take_elf(struct unpack *unpack)
{
	Elf64_Ehdr header;

	memcpy(&header, unpack->kernel, sizeof(header));
	if (header.e_machine == EM_AARCH64)
		return error_say(unpack->err, -EOPNOTSUPP,
				 "%s: an arm64 kernel is booted from its Image; give "
				 "arch/arm64/boot/Image",
				 unpack->source);
	if (header.e_machine != EM_X86_64)
		return error_say(unpack->err, -EOPNOTSUPP,
				 "%s is an ELF, but neither a kernel of amd64 nor of arm64",
				 unpack->source);
	unpack->architecture = "amd64";
	find_version(unpack, unpack->kernel, unpack->kernel_size);
	return write_vmlinux(unpack, unpack->kernel, unpack->kernel_size);
}

static int take_arm64_image(struct unpack *unpack)
{
	AUTO(free) void *image = NULL;
	size_t size;
	int r = arm64_image_unwrap(unpack->kernel, unpack->kernel_size, &image, &size, unpack->err);

	if (r < 0)
		return error_wrap(unpack->err, r, "%s", unpack->source);
	unpack->architecture = "arm64";
	find_version(unpack, image, size);
	return write_vmlinux(unpack, image, size);
}

static int take_bzimage(struct unpack *unpack)
{
	AUTO(free) void *vmlinux = NULL;
	struct bzimage header;
	size_t size;
	int r = bzimage_decode(unpack->kernel, unpack->kernel_size, &header, unpack->err);

	if (r == 0)
		r = bzimage_unwrap(unpack->kernel, unpack->kernel_size, &vmlinux, &size,
				   unpack->err);
	if (r < 0)
		return error_wrap(unpack->err, r, "%s", unpack->source);
	unpack->architecture = "amd64";
	snprintf(unpack->version, sizeof(unpack->version), "%.*s",
		 (int) strcspn(header.version, " "), header.version);
	for (char *p = unpack->version; *p; p++)
		*p = *p > ' ' && *p < 0x7f ? *p : '_';
	r = write_vmlinux(unpack, vmlinux, size);
	return r < 0 ? r : write_out(unpack, "bzImage", unpack->kernel, unpack->kernel_size);
}

static int unwrap(struct unpack *unpack)
{
	if (bzimage_is_elf(unpack->kernel, unpack->kernel_size))
		return take_elf(unpack);
	if (arm64_image_is_likely(unpack->kernel, unpack->kernel_size))
		return take_arm64_image(unpack);
	return take_bzimage(unpack);
}

/* -- its modules ------------------------------------------------------------------------------ */

/* A folder that is not there is a kernel that needs none. */
static int find_modules(struct unpack *unpack)
{
	if (unpack->package || !unpack->modules || (unpack->versions && !unpack->version[0]))
		return 0;
	unpack->tree_fd = openat(WORKER_MODULES_FD, unpack->versions ? unpack->version : ".",
				 O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (unpack->tree_fd < 0)
		return errno == ENOENT ? 0
				       : error_set(unpack->err, -errno, "the folder of modules");
	return module_table_add_tree(unpack->table, unpack->tree_fd, unpack->err);
}

static int copy_modules(struct unpack *unpack)
{
	AUTO(fd_close) int modules_fd = -1;
	int r;

	if (mkdirat(WORKER_JOB_FD, "modules", 0755) < 0)
		return error_set(unpack->err, -errno, "make the folder of modules");
	modules_fd = openat(WORKER_JOB_FD, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (modules_fd < 0)
		return error_set(unpack->err, -errno, "the folder of modules");
	r = kernel_modules_copy(unpack->table, modules_fd, unpack->err);
	if (r < 0 || !unpack->package)
		return r;
	r = file_remove_tree(WORKER_JOB_FD, "all");
	return r < 0 ? error_set(unpack->err, r, "remove what is not needed") : 0;
}

static int read_request(struct wire *wire, struct unpack *unpack)
{
	AUTO(json_decref) json_t *request = NULL;
	struct json_reader in = { .err = unpack->err, .where = "request" };
	int r = wire_receive(wire, &request, unpack->err);

	if (r < 0)
		return r;
	json_read_string(&in, request, "source", &unpack->source);
	json_read_bool(&in, request, "package", &unpack->package);
	json_read_bool(&in, request, "modules", &unpack->modules);
	json_read_bool(&in, request, "versions", &unpack->versions);
	return json_reader_finish(&in, request);
}

int kernel_worker(struct wire *wire, const char *action, struct error *err)
{
	AUTO(unpack_done) struct unpack unpack = { .tree_fd = -1, .err = err };
	int r = sandbox_enter_instance(WORKER_EXTRA_FD, err);

	(void) action;
	if (r == 0)
		r = sandbox_limit_files(BZIMAGE_VMLINUX_MAX, err);
	if (r == 0)
		r = read_request(wire, &unpack);
	if (r < 0)
		return r;
	unpack.table = module_table_new();
	r = read_kernel(&unpack);
	if (r == 0)
		r = unwrap(&unpack);
	if (r == 0)
		r = find_modules(&unpack);
	if (r == 0)
		r = copy_modules(&unpack);
	if (r == 0)
		wire_send(wire->fd, json_pack("{s:s, s:s, s:s}", "type", "done", "version",
					      unpack.version, "architecture", unpack.architecture));
	return r;
}
