#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/oci_spec_internal.h"

/* A number that JSON's readers here cannot hold: 19 digits or more, above INT64_MAX. */
static bool too_big(const char *digits, size_t count)
{
	return count > 19 || (count == 19 && memcmp(digits, "9223372036854775807", 19) > 0);
}

/* Copies a string or anything else that is no number; returns how much. */
static size_t skip_other(const char *p, size_t size)
{
	size_t i = 1;

	if (p[0] != '"')
		return 1;
	while (i < size && p[i] != '"')
		i += p[i] == '\\' ? 2 : 1;
	return i < size ? i + 1 : size;
}

/*
 * Clients write "no limit" as 2^64-1, which does not fit the parser's integers: such a number is
 * given to it as a string, and oci_read_u64() takes it from there.  False: there are none.
 */
static bool quote_big_numbers(const char *text, size_t size, struct strbuf *ret)
{
	size_t copied = 0, i = 0;

	while (i < size) {
		size_t n = 0;

		while (i + n < size && text[i + n] >= '0' && text[i + n] <= '9')
			n++;
		if (n == 0) {
			i += skip_other(text + i, size - i);
			continue;
		}
		if (too_big(text + i, n) && n <= 20 && i > 0 && text[i - 1] != '-' &&
		    text[i - 1] != '.' && (i + n == size || !strchr(".eE", text[i + n]))) {
			strbuf_append(ret, text + copied, i - copied);
			strbuf_printf(ret, "\"%.*s\"", (int) n, text + i);
			copied = i + n;
		}
		i += n;
	}
	if (copied == 0)
		return false;
	strbuf_append(ret, text + copied, size - copied);
	return true;
}

int oci_parse(const char *text, size_t size, json_t **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf quoted = {};

	if (size <= OCI_CONFIG_MAX && quote_big_numbers(text, size, &quoted))
		return json_parse(quoted.data, quoted.size, OCI_CONFIG_MAX * 2, ret, err);
	return json_parse(text, size, OCI_CONFIG_MAX, ret, err);
}

void oci_read_u64(struct json_reader *in, const json_t *object, const char *name, uint64_t *ret)
{
	json_t *value = NULL;
	const char *text;
	char *end;

	json_read_any(in, object, name, &value);
	if (!value || in->result < 0)
		return;
	if (!json_is_string(value)) {
		json_read_uint64(in, object, name, ret);
		return;
	}
	text = json_string_value(value);
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || *end || !too_big(text, strspn(text, "0123456789")))
		oci_fail(in, name, "must be a whole number from 0 to 18446744073709551615");
}

void *oci_alloc(struct oci_spec *spec, size_t count, size_t size)
{
	void *p = mem_realloc_zero_(count ? count : 1, size);

	spec->allocations =
		mem_realloc(spec->allocations, spec->allocation_count + 1, sizeof(void *));
	spec->allocations[spec->allocation_count++] = p;
	return p;
}

int oci_fail(struct json_reader *in, const char *name, const char *fmt, ...)
{
	const char *where = in->where ? in->where : "";
	char message[256];
	va_list ap;

	if (in->result < 0)
		return in->result;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	in->result = error_say(in->err, -EINVAL, "%s%s%s: %s", where, where[0] ? "." : "", name,
			       message);
	return in->result;
}

static bool is_text(const json_t *value)
{
	return json_is_string(value) &&
	       strlen(json_string_value(value)) == json_string_length(value);
}

void oci_read_text(struct json_reader *in, const json_t *object, const char *name, const char **ret)
{
	json_t *value = NULL;

	json_read_any(in, object, name, &value);
	if (!value || in->result < 0)
		return;
	if (!is_text(value))
		oci_fail(in, name, "must be a string without NUL characters");
	else
		*ret = json_string_value(value);
}

void oci_read_texts(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		    const char *name, oci_strings *ret)
{
	json_t *array = NULL, *item;
	const char **list;
	size_t i;

	json_read_array(in, object, name, &array);
	if (!array || in->result < 0)
		return;
	list = oci_alloc(spec, json_array_size(array) + 1, sizeof(char *));
	json_array_foreach(array, i, item)
	{
		if (!is_text(item)) {
			oci_fail(in, name, "must be a list of strings");
			return;
		}
		list[i] = json_string_value(item);
	}
	*ret = list;
}

void oci_read_opt(struct json_reader *in, const json_t *object, const char *name, int64_t min,
		  int64_t max, struct oci_opt *ret)
{
	json_t *value = NULL;

	json_read_any(in, object, name, &value);
	if (!value || in->result < 0)
		return;
	/* Above what is meant to be signed: no limit. */
	if (json_is_string(value) && max == INT64_MAX &&
	    too_big(json_string_value(value), strspn(json_string_value(value), "0123456789"))) {
		*ret = (struct oci_opt){ .set = true, .value = INT64_MAX };
		return;
	}
	if (json_read_int(in, object, name, min, max, &ret->value) == 0)
		ret->set = true;
}

void oci_read_pairs(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		    const char *name, struct oci_pair **ret, size_t *ret_count)
{
	json_t *members = NULL, *value;
	struct oci_pair *list;
	const char *key;
	size_t count = 0;

	json_read_object(in, object, name, &members);
	if (!members || in->result < 0)
		return;
	list = oci_alloc(spec, json_object_size(members), sizeof(*list));
	json_object_foreach(members, key, value)
	{
		if (!is_text(value)) {
			oci_fail(in, name, "%.64s: must be a string", key);
			return;
		}
		list[count++] = (struct oci_pair){ key, json_string_value(value) };
	}
	*ret = list;
	*ret_count = count;
}

void oci_refuse(struct json_reader *in, const json_t *object, const char *name, const char *why)
{
	json_t *value = NULL;

	json_read_any(in, object, name, &value);
	if (!value || in->result < 0)
		return;
	if (json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
	    (json_is_array(value) && json_array_size(value) == 0) ||
	    (json_is_string(value) && json_string_length(value) == 0))
		return;
	oci_fail(in, name, "%s", why);
}

void oci_require(struct json_reader *in, const json_t *object, const char *name)
{
	json_t *value = NULL;

	json_read_any(in, object, name, &value);
	if (!value && in->result == 0)
		oci_fail(in, name, "is missing");
}

void *oci_read_list(struct oci_spec *spec, struct json_reader *outer, const json_t *object,
		    const char *name, size_t size, oci_item_fn decode, size_t *ret_count)
{
	json_t *array = NULL, *item;
	char *list;
	size_t i;

	json_read_array(outer, object, name, &array);
	if (outer->result < 0 || !array)
		return NULL;
	list = oci_alloc(spec, json_array_size(array), size);
	json_array_foreach(array, i, item)
	{
		char where[160];
		struct json_reader in = { .err = outer->err, .where = where };

		snprintf(where, sizeof(where), "%s%s%s[%zu]", outer->where,
			 outer->where[0] ? "." : "", name, i);
		decode(spec, &in, item, list + i * size);
		if (in.result < 0) {
			outer->result = in.result;
			return NULL;
		}
	}
	*ret_count = json_array_size(array);
	return list;
}

void oci_read_device_number(struct json_reader *in, const json_t *object, uint32_t *ret_major,
			    uint32_t *ret_minor)
{
	oci_require(in, object, "major");
	oci_require(in, object, "minor");
	json_read_uint32(in, object, "major", 4095, ret_major);
	json_read_uint32(in, object, "minor", 1048575, ret_minor);
}
