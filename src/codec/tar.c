#include "codec/tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum { DIGITS_MAX = 20, NANOSECOND_DIGITS = 9 };

size_t tar_padding(uint64_t size)
{
	return (size_t) ((TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE);
}

/* Octal text, or 0x80 and a big-endian number (GNU). */
static int read_number(const unsigned char *field, size_t size, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		if (field[0] != 0x80)
			return -EBADMSG; /* negative, or larger than anything */
		for (i = 1; i < size; i++) {
			if (value >> 56)
				return -EBADMSG;
			value = value << 8 | field[i];
		}
		*ret = value;
		return 0;
	}
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
		if (value >> 60)
			return -EBADMSG;
		value = value << 3 | (uint64_t) (field[i] - '0');
	}
	if (i < size && field[i] != ' ' && field[i] != '\0')
		return -EBADMSG;
	*ret = value;
	return 0;
}

static int read_uint32(const unsigned char *field, size_t size, uint32_t *ret)
{
	uint64_t value = 0;
	int r = read_number(field, size, &value);

	if (r < 0 || value > UINT32_MAX)
		return -EBADMSG;
	*ret = (uint32_t) value;
	return 0;
}

static bool is_zero(const unsigned char *block)
{
	return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK_SIZE - 1) == 0;
}

static bool checksum_fits(const unsigned char *block)
{
	uint64_t told = 0, sum = 0;

	if (read_number(block + 148, 8, &told) < 0)
		return false;
	for (size_t i = 0; i < TAR_BLOCK_SIZE; i++)
		sum += i >= 148 && i < 156 ? ' ' : block[i];
	return sum == told;
}

int tar_header_decode(const void *data, struct tar_header *ret, struct error *err)
{
	const unsigned char *block = data;
	const char *text = data;
	struct tar_header header = {};
	uint64_t mtime = 0;

	if (is_zero(block))
		return 1;
	if (!checksum_fits(block))
		return error_say(err, -EBADMSG,
				 "the tar is damaged: a header has a wrong checksum");
	if (read_uint32(block + 100, 8, &header.mode) < 0 ||
	    read_uint32(block + 108, 8, &header.uid) < 0 ||
	    read_uint32(block + 116, 8, &header.gid) < 0 ||
	    read_number(block + 124, 12, &header.size) < 0 ||
	    read_number(block + 136, 12, &mtime) < 0 || mtime > INT64_MAX)
		return error_say(err, -EBADMSG, "the tar is damaged: a header has a wrong number");
	header.mtime = (int64_t) mtime;
	header.type = text[156] == '\0' ? TAR_FILE : text[156];
	memcpy(header.link, text + 157, 100);
	/* GNU's own magic has other things where ustar has the prefix. */
	if (memcmp(text + 257, "ustar\0", 6) == 0 && text[345] != '\0') {
		memcpy(header.name, text + 345, 155);
		strcat(header.name, "/");
	}
	strncat(header.name, text, 100);
	*ret = header;
	return 0;
}

static int read_decimal(const char *text, size_t size, uint64_t *ret)
{
	uint64_t value = 0;

	if (size == 0 || size > DIGITS_MAX - 1)
		return -EBADMSG;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EBADMSG;
		value = value * 10 + (uint64_t) (text[i] - '0');
	}
	*ret = value;
	return 0;
}

static int read_id(const char *text, size_t size, bool *ret_has, uint32_t *ret)
{
	uint64_t value;

	if (read_decimal(text, size, &value) < 0 || value > UINT32_MAX)
		return -EBADMSG;
	*ret = (uint32_t) value;
	*ret_has = true;
	return 0;
}

/* "1700000000.25"; times before 1970 count as that. */
static int read_time(const char *text, size_t size, struct tar_records *records)
{
	const char *point = memchr(text, '.', size);
	size_t whole = point ? (size_t) (point - text) : size;
	uint64_t seconds = 0;
	uint32_t ns = 0;

	records->has_mtime = true;
	records->mtime = 0;
	records->mtime_ns = 0;
	if (size > 0 && text[0] == '-')
		return 0;
	if (read_decimal(text, whole, &seconds) < 0 || seconds > INT64_MAX)
		return -EBADMSG;
	for (size_t i = 0; point && i < NANOSECOND_DIGITS; i++) {
		size_t at = whole + 1 + i;
		char c = at < size ? text[at] : '0';

		if (c < '0' || c > '9')
			return -EBADMSG;
		ns = ns * 10 + (uint32_t) (c - '0');
	}
	records->mtime = (int64_t) seconds;
	records->mtime_ns = ns;
	return 0;
}

static int read_text(const char *text, size_t size, char **ret)
{
	if (size == 0 || size > TAR_TEXT_MAX || memchr(text, '\0', size))
		return -EBADMSG;
	free(*ret);
	*ret = mem_strndup(text, size);
	return 0;
}

static bool is_key(const char *key, size_t size, const char *wanted)
{
	return strlen(wanted) == size && memcmp(key, wanted, size) == 0;
}

static int take_record(const char *key, size_t key_size, const char *value, size_t size,
		       struct tar_records *records, struct error *err)
{
	int r = 0;

	if (is_key(key, key_size, "path")) {
		r = read_text(value, size, &records->path);
	} else if (is_key(key, key_size, "linkpath")) {
		r = read_text(value, size, &records->linkpath);
	} else if (is_key(key, key_size, "size")) {
		r = read_decimal(value, size, &records->size);
		records->has_size = true;
	} else if (is_key(key, key_size, "uid")) {
		r = read_id(value, size, &records->has_uid, &records->uid);
	} else if (is_key(key, key_size, "gid")) {
		r = read_id(value, size, &records->has_gid, &records->gid);
	} else if (is_key(key, key_size, "mtime")) {
		r = read_time(value, size, records);
	} else if (key_size > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
		return error_say(err, -EBADMSG,
				 "the tar has a sparse file in a form that is not understood");
	}
	return r < 0 ? error_say(err, r, "the tar is damaged: record '%.*s'",
				 key_size < 40 ? (int) key_size : 40, key)
		     : 0;
}

int tar_records_decode(const char *text, size_t size, struct tar_records *ret, struct error *err)
{
	size_t at = 0;

	while (at < size) {
		const char *space = memchr(text + at, ' ', size - at);
		const char *equals;
		uint64_t length = 0;
		size_t digits = space ? (size_t) (space - (text + at)) : 0;
		int r;

		if (!space || read_decimal(text + at, digits, &length) < 0 || length > size - at ||
		    length < digits + 4 || text[at + length - 1] != '\n')
			return error_say(err, -EBADMSG, "the tar is damaged: a record's length");
		equals = memchr(space + 1, '=', length - digits - 2);
		if (!equals)
			return error_say(err, -EBADMSG, "the tar is damaged: a record without '='");
		r = take_record(space + 1, (size_t) (equals - space - 1), equals + 1,
				(size_t) (text + at + length - 1 - (equals + 1)), ret, err);
		if (r < 0)
			return r;
		at += length;
	}
	return 0;
}

void tar_records_done(struct tar_records *records)
{
	free(records->path);
	free(records->linkpath);
	*records = (struct tar_records){};
}
