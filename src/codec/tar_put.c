#include "codec/tar_put.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "base/strbuf.h"

enum { NAME_SIZE = 100, ID_MAX = 07777777 };

/* What the eleven octal digits of ustar can say. */
#define OCTAL_MAX UINT64_C(077777777777)

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void put_record(struct strbuf *pax, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, size = rest, before;

	do {
		before = size;
		size = rest + (size_t) snprintf(NULL, 0, "%zu", size);
	} while (size != before);
	strbuf_printf(pax, "%zu %s=%s\n", size, key, value);
}

static void put_number(struct strbuf *pax, const char *key, uint64_t value)
{
	AUTO(free) char *text = mem_printf("%llu", (unsigned long long) value);

	put_record(pax, key, text);
}

static void put_records(struct strbuf *pax, const struct tar_put *entry, const char *link)
{
	if (strlen(entry->name) > NAME_SIZE)
		put_record(pax, "path", entry->name);
	if (strlen(link) > NAME_SIZE)
		put_record(pax, "linkpath", link);
	if (entry->size > OCTAL_MAX)
		put_number(pax, "size", entry->size);
	if (entry->uid > ID_MAX)
		put_number(pax, "uid", entry->uid);
	if (entry->gid > ID_MAX)
		put_number(pax, "gid", entry->gid);
	if (entry->mtime >= 0 && (entry->mtime_ns > 0 || (uint64_t) entry->mtime > OCTAL_MAX)) {
		AUTO(free)
		char *text = mem_printf("%lld.%09u", (long long) entry->mtime, entry->mtime_ns);

		put_record(pax, "mtime", text);
	}
}

static void put_zeros(struct strbuf *out, size_t size)
{
	memset(strbuf_reserve(out, size + 1), 0, size);
	strbuf_grown(out, size);
}

static void put_block(struct strbuf *out, const struct tar_put *entry, const char *link)
{
	char *header = strbuf_reserve(out, TAR_BLOCK_SIZE);
	uint64_t mtime = entry->mtime < 0 ? 0 : (uint64_t) entry->mtime;
	unsigned int sum = 0;

	memset(header, 0, TAR_BLOCK_SIZE);
	memcpy(header, entry->name, strnlen(entry->name, NAME_SIZE));
	snprintf(header + 100, 8, "%07o", entry->mode & 07777);
	snprintf(header + 108, 8, "%07o", entry->uid > ID_MAX ? 0 : entry->uid);
	snprintf(header + 116, 8, "%07o", entry->gid > ID_MAX ? 0 : entry->gid);
	snprintf(header + 124, 12, "%011llo",
		 (unsigned long long) (entry->size > OCTAL_MAX ? OCTAL_MAX : entry->size));
	snprintf(header + 136, 12, "%011llo",
		 (unsigned long long) (mtime > OCTAL_MAX ? OCTAL_MAX : mtime));
	memset(header + 148, ' ', 8);
	header[156] = entry->type;
	memcpy(header + 157, link, strnlen(link, NAME_SIZE));
	memcpy(header + 257, "ustar\00000", 8);
	if (entry->type == TAR_CHAR || entry->type == TAR_BLOCK_DEVICE) {
		snprintf(header + 329, 8, "%07o", major(entry->device) & 07777777u);
		snprintf(header + 337, 8, "%07o", minor(entry->device) & 07777777u);
	}
	for (int i = 0; i < TAR_BLOCK_SIZE; i++)
		sum += (unsigned char) header[i];
	snprintf(header + 148, 8, "%06o", sum);
	strbuf_grown(out, TAR_BLOCK_SIZE);
}

void tar_put_header(struct strbuf *out, const struct tar_put *entry)
{
	AUTO(strbuf_done) struct strbuf pax = {};
	const char *link = entry->link ? entry->link : "";

	put_records(&pax, entry, link);
	if (pax.size > 0) {
		const struct tar_put records = {
			.type = TAR_PAX, .name = "PaxHeaders/entry", .size = pax.size, .mode = 0644
		};

		put_block(out, &records, "");
		strbuf_append(out, pax.data, pax.size);
		put_zeros(out, tar_padding(pax.size));
	}
	put_block(out, entry, link);
}
