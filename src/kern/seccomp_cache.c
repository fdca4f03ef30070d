#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <nettle/sha2.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/seccomp.h"

/* The head of a kept filter; the program follows. */
struct cache_head {
	char magic[8];
	uint32_t flags;
	uint32_t notify;
	uint64_t size;
};

static const char magic[8] = "brumeF2";

enum {
	CACHE_FILE_MAX = sizeof(struct cache_head) + BPF_MAXINSNS * sizeof(struct sock_filter),
	CACHE_COUNT_MAX = 256,
};

void seccomp_cache_key(const void *text, size_t size, char ret[SECCOMP_KEY_SIZE])
{
	const struct scmp_version *version = seccomp_version();
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	char salt[64];

	/* Another libseccomp knows other system calls and builds another program. */
	snprintf(salt, sizeof(salt), "%s %u.%u.%u %x\n", magic, version->major, version->minor,
		 version->micro, seccomp_arch_native());
	sha256_init(&ctx);
	sha256_update(&ctx, strlen(salt), (const uint8_t *) salt);
	sha256_update(&ctx, size, text);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

int seccomp_cache_get(const char *dir, const char *key, struct seccomp_filter **ret)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, key);
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = NULL;
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct cache_head head;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -ENOENT;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) ||
	    st.st_size < (off_t) sizeof(head) || st.st_size > CACHE_FILE_MAX)
		return -ENOENT;
	if (read(fd, &head, sizeof(head)) != sizeof(head) ||
	    memcmp(head.magic, magic, sizeof(magic)) != 0 || head.size == 0 ||
	    head.size % sizeof(struct sock_filter) ||
	    head.size != (uint64_t) st.st_size - sizeof(head))
		return -ENOENT;
	filter = mem_new0(struct seccomp_filter);
	filter->flags = head.flags;
	filter->notify = head.notify;
	filter->size = head.size;
	filter->program = mem_zalloc(head.size);
	if (read(fd, filter->program, head.size) != (ssize_t) head.size)
		return -ENOENT;
	*ret = TAKE_PTR(filter);
	return 0;
}

/*
 * Profiles that people bring along must not fill a folder in memory: a full one is emptied, and
 * what is used is made again.
 */
static void make_room(const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;
	unsigned int count = 0;

	if (!stream)
		return;
	while (count < CACHE_COUNT_MAX && (entry = readdir(stream)))
		count += entry->d_name[0] != '.';
	if (count >= CACHE_COUNT_MAX) {
		rewinddir(stream);
		while ((entry = readdir(stream)))
			if (entry->d_name[0] != '.')
				(void) unlinkat(dirfd(stream), entry->d_name, 0);
	}
	closedir(stream);
}

int seccomp_cache_put(const char *dir, const char *key, const struct seccomp_filter *filter)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, key);
	AUTO(strbuf_done) struct strbuf file = {};
	struct cache_head head = {
		.flags = filter->flags,
		.notify = filter->notify,
		.size = filter->size,
	};

	make_room(dir);
	memcpy(head.magic, magic, sizeof(magic));
	strbuf_append(&file, &head, sizeof(head));
	strbuf_append(&file, filter->program, filter->size);
	return file_write_atomic(AT_FDCWD, path, file.data, file.size, 0600, 0);
}
