#include "codec/oci_cut.h"

#include <string.h>

struct cursor {
	const char *p;
	const char *end;
};

static void skip_space(struct cursor *in)
{
	while (in->p < in->end &&
	       (*in->p == ' ' || *in->p == '\n' || *in->p == '\t' || *in->p == '\r'))
		in->p++;
}

/* Stands on '"'; steps behind the closing one. */
static bool skip_string(struct cursor *in)
{
	for (in->p++; in->p < in->end; in->p++) {
		if (*in->p == '\\')
			in->p++;
		else if (*in->p == '"') {
			in->p++;
			return true;
		}
	}
	return false;
}

/* Steps over one value; only brackets and strings matter for that. */
static bool skip_value(struct cursor *in)
{
	size_t depth = 0;

	skip_space(in);
	while (in->p < in->end) {
		switch (*in->p) {
		case '"':
			if (!skip_string(in))
				return false;
			break;
		case '{':
		case '[':
			depth++;
			in->p++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return true;
			depth--;
			in->p++;
			break;
		case ',':
			if (depth == 0)
				return true;
			in->p++;
			continue;
		default:
			in->p++;
			continue;
		}
		if (depth == 0)
			return true;
	}
	return false;
}

/* Stands on '{'; steps to the value of member `name`.  False when it is not there. */
static bool find_member(struct cursor *in, const char *name)
{
	size_t length = strlen(name);

	in->p++;
	for (;;) {
		const char *key;

		skip_space(in);
		if (in->p >= in->end || *in->p != '"')
			return false;
		key = in->p + 1;
		if (!skip_string(in))
			return false;
		bool found = (size_t) (in->p - 1 - key) == length && memcmp(key, name, length) == 0;
		skip_space(in);
		if (in->p >= in->end || *in->p != ':')
			return false;
		in->p++;
		skip_space(in);
		if (found)
			return in->p < in->end && *in->p == '{';
		if (!skip_value(in))
			return false;
		skip_space(in);
		if (in->p >= in->end || *in->p != ',')
			return false;
		in->p++;
	}
}

bool oci_cut_seccomp(const char *text, size_t size, size_t *ret_start, size_t *ret_size)
{
	struct cursor in = { text, text + size };
	const char *start;

	skip_space(&in);
	if (in.p >= in.end || *in.p != '{' || !find_member(&in, "linux") ||
	    !find_member(&in, "seccomp"))
		return false;
	start = in.p;
	if (!skip_value(&in) || in.p > in.end)
		return false;
	*ret_start = (size_t) (start - text);
	*ret_size = (size_t) (in.p - start);
	return true;
}
