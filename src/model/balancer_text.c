#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/balancer_internal.h"

enum { KEY_MAX_BYTES = 128, VALUE_MAX_BYTES = 1024, PORT_DIGITS_MAX = 5 };

/* ---- selectors ---- */

static bool term_is_good(const char *term)
{
	size_t size = strcspn(term, "=");
	const char *value = term[size] ? term + size + 1 : "";

	if (size == 0 || size > KEY_MAX_BYTES || !isalnum((unsigned char) term[0]))
		return false;
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char) term[i]) && !strchr("._/-", term[i]))
			return false;
	if (strlen(value) > VALUE_MAX_BYTES)
		return false;
	for (; *value; value++)
		if ((unsigned char) *value < ' ' || *value == 0x7f)
			return false;
	return true;
}

int balancer_selector_parse(const char *text, char ***ret, struct error *err)
{
	AUTO(strv_free) char **terms = NULL;
	const char *rest = text;

	for (;;) {
		size_t size = strcspn(rest, ",");
		AUTO(free) char *term = mem_strndup(rest, size);

		if (!term_is_good(term))
			return error_say(err, -EINVAL,
					 "\"%.80s\" is not a selector: use KEY=VALUE or KEY with "
					 "commas between, for example role=web,tier=front",
					 text);
		strv_append(&terms, term);
		if (!rest[size])
			break;
		rest += size + 1;
	}
	if (strv_count(terms) > BALANCER_TERMS_MAX)
		return error_say(err, -EINVAL, "a selector has at most %d terms",
				 BALANCER_TERMS_MAX);
	*ret = TAKE_PTR(terms);
	return 0;
}

bool balancer_selector_matches(char *const *selector, char *const *labels)
{
	for (; selector && *selector; selector++) {
		size_t size = strcspn(*selector, "=");
		bool whole = (*selector)[size] == '=';
		bool found = false;

		for (char *const *label = labels; label && *label && !found; label++)
			found = whole ? strcmp(*label, *selector) == 0
				      : strncmp(*label, *selector, size) == 0 &&
						(*label)[size] == '=';
		if (!found)
			return false;
	}
	return true;
}

/* ---- ports ---- */

/* The port at the beginning of `text`; *ret_rest is what follows. */
static int read_port(const char *text, const char **ret_rest, uint16_t *ret)
{
	size_t size = strspn(text, "0123456789");
	unsigned long port = size > 0 && size <= PORT_DIGITS_MAX ? strtoul(text, NULL, 10) : 0;

	if (port < 1 || port > 65535)
		return -EINVAL;
	*ret = (uint16_t) port;
	*ret_rest = text + size;
	return 0;
}

/* "*:", "vip:", "192.0.2.1:", "[2001:db8::1]:"; none is fine. */
static int read_place(const char **text, struct balancer_listen *listen)
{
	const char *start = *text, *end;
	char address[IP_TEXT_SIZE];
	struct ip ip;

	if (strncmp(start, "*:", 2) == 0) {
		*text += 2;
		return 0;
	}
	if (strncmp(start, "vip:", 4) == 0) {
		listen->vip = true;
		*text += 4;
		return 0;
	}
	if (start[0] != '[' && start[strspn(start, "0123456789")] != '.')
		return 0;
	end = start[0] == '[' ? strchr(++start, ']') : strchr(start, ':');
	if (!end || (size_t) (end - start) >= sizeof(address))
		return -EINVAL;
	memcpy(address, start, (size_t) (end - start));
	address[end - start] = '\0';
	if (*end == ']' && *++end != ':')
		return -EINVAL;
	if (ip_parse(address, &ip) < 0)
		return -EINVAL;
	ip_format(&ip, listen->address);
	*text = end + 1;
	return 0;
}

int balancer_listen_parse(const char *text, struct balancer_listen *ret, struct error *err)
{
	struct balancer_listen listen = {};
	const char *rest = text;
	int r = read_place(&rest, &listen);

	if (r == 0)
		r = read_port(rest, &rest, &listen.port);
	listen.target_port = listen.port;
	if (r == 0 && *rest == ':')
		r = read_port(rest + 1, &rest, &listen.target_port);
	if (r == 0 && strcmp(rest, "/udp") == 0)
		listen.protocol = PROTOCOL_UDP;
	else if (r == 0 && *rest && strcmp(rest, "/tcp") != 0)
		r = -EINVAL;
	if (r < 0)
		return error_say(err, -EINVAL,
				 "\"%.80s\" is no place to listen at: use "
				 "[ADDRESS:]PORT[:TARGET][/tcp|/udp], for example 80:8080; the "
				 "address is one of the node, * or vip",
				 text);
	*ret = listen;
	return 0;
}

int balancer_check_parse(const char *text, struct balancer_check *check, struct error *err)
{
	struct balancer_check parsed = *check;
	const char *rest = text, *path = NULL;
	int r = 0;

	parsed.port = 0;
	if (strcmp(text, "none") == 0) {
		parsed.type = BALANCER_CHECK_NONE;
		rest = "";
	} else if (strncmp(text, "tcp", 3) == 0) {
		parsed.type = BALANCER_CHECK_TCP;
		rest = text + 3;
		if (*rest == ':')
			r = read_port(rest + 1, &rest, &parsed.port);
	} else if (strncmp(text, "http:", 5) == 0) {
		parsed.type = BALANCER_CHECK_HTTP;
		rest = text + 5;
		if (*rest != '/')
			r = read_port(rest, &rest, &parsed.port);
		path = rest;
		rest = *path == '/' ? "" : "?";
	} else {
		r = -EINVAL;
	}
	if (r < 0 || *rest)
		return error_say(err, -EINVAL,
				 "\"%.80s\" is not a check: use tcp, tcp:PORT, http:/PATH, "
				 "http:PORT/PATH or none",
				 text);
	free(check->path);
	parsed.path = path ? mem_strdup(path) : NULL;
	*check = parsed;
	return 0;
}
