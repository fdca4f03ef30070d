#include "codec/image_ref.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/digest.h"

enum { HOST_MAX = 255, PATH_MAX_CHARS = 255, TAG_MAX = 128 };

static bool is_lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
	return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

/* A name, an IPv4 address or an [IPv6 address], and maybe a port. */
static int check_host(const char *host, struct error *err)
{
	const char *p = host;

	if (*p == '[') {
		p++;
		while (is_word(*p) || *p == ':' || *p == '.')
			p++;
		if (*p++ != ']')
			return error_say(err, -EINVAL, "bad registry '%s': ']' is missing", host);
	} else {
		if (!is_word(*p))
			return error_say(
				err, -EINVAL,
				"bad registry '%s': it must begin with a letter or a digit", host);
		while (is_word(*p) || *p == '.' || *p == '-')
			p++;
	}
	if (*p == ':') {
		char *end;
		long port = strtol(p + 1, &end, 10);

		if (!p[1] || p[1] == '+' || p[1] == '-' || p[1] == ' ' || *end || port < 1 ||
		    port > 65535)
			return error_say(err, -EINVAL,
					 "bad registry '%s': the port must be 1-65535", host);
		p = end;
	}
	if (*p || strlen(host) > HOST_MAX)
		return error_say(err, -EINVAL, "bad registry '%.100s': HOST or HOST:PORT is right",
				 host);
	return 0;
}

/* Components of [a-z0-9], joined inside by '.', '_', "__" or dashes. */
static int check_path(const char *path, struct error *err)
{
	const char *p = path;

	if (strlen(path) > PATH_MAX_CHARS)
		return error_say(err, -EINVAL, "bad image name '%.60s...': at most %d characters",
				 path, PATH_MAX_CHARS);
	for (;;) {
		if (!is_lower_or_digit(*p))
			break;
		while (is_lower_or_digit(*p))
			p++;
		if (*p == '\0')
			return 0;
		if (*p == '.')
			p++;
		else if (*p == '_')
			p += p[1] == '_' ? 2 : 1;
		else if (*p == '-')
			p += strspn(p, "-");
		else if (*p == '/')
			p++;
		else
			break;
	}
	return error_say(
		err, -EINVAL,
		"bad image name '%s': lower-case letters, digits and single . _ / or dashes "
		"between them are right",
		path);
}

static int check_tag(const char *tag, struct error *err)
{
	size_t n = strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

	if (!tag[0] || tag[n] || tag[0] == '.' || tag[0] == '-' || n > TAG_MAX)
		return error_say(
			err, -EINVAL,
			"bad tag '%.140s': up to %d letters, digits, '_', '.' and '-' are right, "
			"'.' and '-' not first",
			tag, TAG_MAX);
	return 0;
}

static bool is_host(const char *component)
{
	return strpbrk(component, ".:[") || strcmp(component, "localhost") == 0;
}

/* Splits `name` (HOST/PATH, or PATH to be completed) into ref->host and ref->path. */
static int split_host(const char *name, const char *default_registry, struct image_ref *ref,
		      struct error *err)
{
	const char *slash = strchr(name, '/');
	AUTO(free) char *first = slash ? mem_strndup(name, (size_t) (slash - name)) : NULL;
	int r;

	if (first && is_host(first)) {
		ref->host = TAKE_PTR(first);
		ref->path = mem_strdup(slash + 1);
		return 0;
	}
	r = check_path(name, err);
	if (r < 0)
		return r;
	if (!default_registry || !default_registry[0])
		return error_say(err, -EINVAL,
				 "image '%s' does not say where it is and no default registry is "
				 "configured: write HOST/%s",
				 name, name);

	const char *prefix = strchr(default_registry, '/');
	ref->host = prefix ? mem_strndup(default_registry, (size_t) (prefix - default_registry))
			   : mem_strdup(default_registry);
	ref->path = prefix && prefix[1] ? mem_printf("%s/%s", prefix + 1, name) : mem_strdup(name);
	return 0;
}

int image_ref_parse(const char *text, const char *default_registry, struct image_ref *ret,
		    struct error *err)
{
	AUTO(image_ref_done) struct image_ref ref = {};
	int r;

	if (!text || !text[0])
		return error_say(err, -EINVAL, "the image's name is empty: write HOST/NAME[:TAG]");
	if (strlen(text) >= IMAGE_REF_TEXT_MAX)
		return error_say(err, -EINVAL, "image name '%.60s...' is longer than %d characters",
				 text, IMAGE_REF_TEXT_MAX - 1);

	AUTO(free) char *name = mem_strdup(text);
	char *at = strchr(name, '@');
	if (at) {
		struct digest digest;

		*at = '\0';
		r = digest_parse(at + 1, &digest, err);
		if (r < 0)
			return error_wrap(err, r, "image '%s'", text);
		ref.digest = mem_strdup(at + 1);
	}

	char *slash = strrchr(name, '/');
	char *colon = strrchr(slash ? slash : name, ':');
	if (colon) {
		*colon = '\0';
		r = check_tag(colon + 1, err);
		if (r < 0)
			return error_wrap(err, r, "image '%s'", text);
		ref.tag = mem_strdup(colon + 1);
	}
	if (!ref.tag && !ref.digest)
		ref.tag = mem_strdup("latest");

	r = split_host(name, default_registry, &ref, err);
	if (r < 0)
		return r;
	r = check_host(ref.host, err);
	if (r == 0)
		r = check_path(ref.path, err);
	if (r < 0)
		return error_wrap(err, r, "image '%s'", text);
	*ret = ref;
	ref = (struct image_ref){};
	return 0;
}

char *image_ref_text(const struct image_ref *ref)
{
	return mem_printf("%s/%s%s%s%s%s", ref->host, ref->path, ref->tag ? ":" : "",
			  ref->tag ? ref->tag : "", ref->digest ? "@" : "",
			  ref->digest ? ref->digest : "");
}

void image_ref_done(struct image_ref *ref)
{
	free(ref->host);
	free(ref->path);
	free(ref->tag);
	free(ref->digest);
	*ref = (struct image_ref){};
}
