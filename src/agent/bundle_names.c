#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/bundle_internal.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "image/rootfs.h"

/* Who an instance is to itself, and whom it asks for names: hosts, resolv.conf, hostname. */

enum { NAMES_MAX_BYTES = 65536, HOSTNAME_MAX_BYTES = 63 };

/* A file that root inside the instance may change, as everywhere in this field. */
static int write_owned(int dir_fd, const char *name, const char *text, uint32_t owner)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int r;

	if (fd < 0)
		return -errno;
	r = file_write_all(fd, text, strlen(text));
	if (r == 0 && (fchown(fd, owner, owner) < 0 || fchmod(fd, 0644) < 0))
		r = -errno;
	return r;
}

void bundle_put_hosts(const struct bundle *bundle, struct strbuf *out)
{
	strbuf_puts(out, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	for (size_t i = 0; i < bundle->spec->port_count; i++) {
		const struct port *port = &bundle->spec->ports[i];

		if (port->ipv4[0] && !port->leaving)
			strbuf_printf(out, "%s\t%s\n", port->ipv4, bundle_host_name(bundle));
		if (port->ipv6[0] && !port->leaving)
			strbuf_printf(out, "%s\t%s\n", port->ipv6, bundle_host_name(bundle));
	}
}

size_t bundle_search(const struct bundle *bundle, const char *ret[BUNDLE_SEARCH_MAX])
{
	size_t count = 0;

	if (bundle->zone && bundle->zone[0])
		ret[count++] = bundle->zone;
	if (bundle->dns_domain[0])
		ret[count++] = bundle->dns_domain;
	return count;
}

static void put_resolv(const struct bundle *bundle, struct strbuf *out)
{
	const char *search[BUNDLE_SEARCH_MAX];
	size_t count = bundle_search(bundle, search);

	for (size_t i = 0; i < count; i++)
		strbuf_printf(out, "%s%s%s", i ? " " : "search ", search[i],
			      i + 1 == count ? "\n" : "");
	for (char *const *server = bundle->spec->run.dns; server && *server; server++)
		strbuf_printf(out, "nameserver %s\n", *server);
	if (bundle->nameserver4[0] && !bundle->spec->run.dns)
		strbuf_printf(out, "nameserver %s\n", bundle->nameserver4);
	if (bundle->nameserver6[0] && !bundle->spec->run.dns)
		strbuf_printf(out, "nameserver %s\n", bundle->nameserver6);
}

int bundle_write_names(const struct bundle *bundle, int dir_fd)
{
	uint32_t owner = rootfs_slot_uid(bundle->slot);
	AUTO(strbuf_done) struct strbuf hosts = {}, resolv = {};
	AUTO(free) char *hostname = mem_printf("%s\n", bundle_host_name(bundle));
	int r;

	bundle_put_hosts(bundle, &hosts);
	put_resolv(bundle, &resolv);
	r = write_owned(dir_fd, "hosts", strbuf_str(&hosts), owner);
	if (r == 0)
		r = write_owned(dir_fd, "resolv.conf", strbuf_str(&resolv), owner);
	if (r == 0)
		r = write_owned(dir_fd, "hostname", hostname, owner);
	return r;
}

/* The name that it was started with: a new one of the instance holds from the next start. */
static char *read_hostname(int dir_fd)
{
	AUTO(free) char *text = NULL;
	size_t size;

	if (file_read(dir_fd, "hostname", HOSTNAME_MAX_BYTES + 1, &text, NULL) < 0)
		return NULL;
	size = strcspn(text, "\n");
	text[size] = '\0';
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char) text[i]) && !strchr(".-", text[i]))
			return NULL;
	return size > 0 ? TAKE_PTR(text) : NULL;
}

/*
 * Writes into the file that the instance sees, unless somebody has changed it there: what we have
 * written is never younger than config.json.
 */
static int refresh(int dir_fd, const char *name, const char *text)
{
	AUTO(fd_close) int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	AUTO(free) char *old = NULL;
	struct stat file, config;
	int r;

	if (fd < 0 || fstat(fd, &file) < 0 || fstatat(dir_fd, "config.json", &config, 0) < 0)
		return -errno;
	if (file.st_mtim.tv_sec > config.st_mtim.tv_sec ||
	    (file.st_mtim.tv_sec == config.st_mtim.tv_sec &&
	     file.st_mtim.tv_nsec > config.st_mtim.tv_nsec))
		return 0;
	r = file_read(dir_fd, name, NAMES_MAX_BYTES, &old, NULL);
	if (r < 0 || strcmp(old, text) == 0)
		return r;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	r = file_write_all(fd, text, strlen(text));
	if (r == 0 && futimens(fd, (struct timespec[]){ config.st_atim, config.st_mtim }) < 0)
		r = -errno;
	return r;
}

int bundle_refresh_names(const struct bundle *bundle, struct error *err)
{
	AUTO(fd_close) int dir_fd = open(bundle->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(strbuf_done) struct strbuf hosts = {}, resolv = {};
	AUTO(free) char *hostname = dir_fd < 0 ? NULL : read_hostname(dir_fd);
	struct bundle known = *bundle;
	int r;

	if (dir_fd < 0)
		return error_set(err, -errno, "open %s", bundle->dir);
	put_resolv(bundle, &resolv);
	r = refresh(dir_fd, "resolv.conf", strbuf_str(&resolv));
	if (r == 0 && hostname) {
		known.name = hostname;
		bundle_put_hosts(&known, &hosts);
		r = refresh(dir_fd, "hosts", strbuf_str(&hosts));
	}
	return r < 0 ? error_set(err, r, "write the names' files in %s", bundle->dir) : 0;
}
