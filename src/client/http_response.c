#include "client/http_response.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

enum { HTTP_LINE_MAX_BYTES = 1024, HTTP_TRAILERS_MAX_BYTES = 8192 };

static int http_response_bad(struct error *err, const char *what)
{
	return error_say(err, -EPROTO, "the server's answer is not understood: %s", what);
}

static int http_parse_status(struct http_response *response, const char *line, struct error *err)
{
	const char *digits = line + 9;

	if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ')
		return http_response_bad(err, "it does not begin with HTTP/1.1");
	for (int i = 0; i < 3; i++)
		if (digits[i] < '0' || digits[i] > '9')
			return http_response_bad(err, "its status is not a number");
	if (digits[3] && digits[3] != ' ')
		return http_response_bad(err, "its status is not a number");
	response->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
	if (response->status < 100 || response->status > 599)
		return http_response_bad(err, "its status is out of range");
	response->http10 = line[7] == '0';
	response->keep_alive = !response->http10;
	return 0;
}

static int http_parse_length(struct http_response *response, const char *value, struct error *err)
{
	uint64_t length = 0;

	if (!*value || strlen(value) > 18)
		return http_response_bad(err, "bad Content-Length");
	for (; *value; value++) {
		if (*value < '0' || *value > '9')
			return http_response_bad(err, "bad Content-Length");
		length = length * 10 + (uint64_t) (*value - '0');
	}
	if (response->has_length && response->left != length)
		return http_response_bad(err, "two different lengths");
	response->has_length = true;
	response->left = length;
	return 0;
}

static int http_parse_header(struct http_response *response, char *line, struct error *err)
{
	char *value = strchr(line, ':'), *end;

	if (!value || value == line || line[0] == ' ' || line[0] == '\t')
		return http_response_bad(err, "bad header line");
	*value++ = '\0';
	value += strspn(value, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	if (strcasecmp(line, "Content-Length") == 0)
		return http_parse_length(response, value, err);
	if (strcasecmp(line, "Transfer-Encoding") == 0) {
		if (strcasecmp(value, "chunked") != 0)
			return http_response_bad(err, "unknown Transfer-Encoding");
		response->chunked = true;
	} else if (strcasecmp(line, "Connection") == 0) {
		if (strcasecmp(value, "close") == 0)
			response->keep_alive = false;
		else if (strcasecmp(value, "keep-alive") == 0)
			response->keep_alive = true;
	} else if (strcasecmp(line, "Content-Type") == 0) {
		response->json = strncasecmp(value, "application/json", 16) == 0 &&
				 (!value[16] || strchr("; \t", value[16]));
	} else if (strcasecmp(line, "Sec-WebSocket-Accept") == 0) {
		if (strlen(value) >= sizeof(response->websocket_key))
			return http_response_bad(err, "bad Sec-WebSocket-Accept");
		strcpy(response->websocket_key, value);
	}
	return 0;
}

/* `line` holds the whole head with its empty last line. */
static int http_parse_head(struct http_response *response, struct error *err)
{
	char *line = response->line.data, *end;
	bool first = true;
	int r;

	if (strlen(line) != response->line.size)
		return http_response_bad(err, "a zero byte in the head");
	for (; *line; line = end) {
		end = strchr(line, '\n');
		end[end > line && end[-1] == '\r' ? -1 : 0] = '\0';
		end++;
		if (!*line)
			break;
		r = first ? http_parse_status(response, line, err)
			  : http_parse_header(response, line, err);
		if (r < 0)
			return r;
		first = false;
	}
	if (first)
		return http_response_bad(err, "it is empty");
	if (response->chunked && (response->has_length || response->http10))
		return http_response_bad(err, "ambiguous length");
	return 0;
}

static void http_start_body(struct http_response *response)
{
	if (response->status < 200 && response->status != 101) { /* interim: another head follows */
		strbuf_done(&response->line);
		*response = (struct http_response){};
		return;
	}
	response->head_done = true;
	strbuf_done(&response->line);
	if (response->status == 101 || response->status == 204 || response->status == 304)
		response->state = HTTP_STATE_DONE;
	else if (response->chunked)
		response->state = HTTP_STATE_CHUNK_LINE;
	else if (response->has_length)
		response->state = response->left > 0 ? HTTP_STATE_LENGTH : HTTP_STATE_DONE;
	else
		response->state = HTTP_STATE_UNTIL_END;
	if (response->state == HTTP_STATE_UNTIL_END)
		response->keep_alive = false;
}

/* Collects up to and with the next '\n'.  1 when the line stands, 0 when more is needed. */
static int http_collect_line(struct http_response *response, const char **data, size_t *size,
			     size_t max, struct error *err)
{
	const char *end = memchr(*data, '\n', *size);
	size_t take = end ? (size_t) (end - *data) + 1 : *size;

	if (response->line.size + take > max)
		return http_response_bad(err, "a line or its head is too long");
	strbuf_append(&response->line, *data, take);
	*data += take;
	*size -= take;
	return end ? 1 : 0;
}

static int http_feed_head(struct http_response *response, const char **data, size_t *size,
			  struct error *err)
{
	const struct strbuf *head = &response->line;
	size_t n;
	int r = http_collect_line(response, data, size, HTTP_HEAD_MAX_BYTES, err);

	if (r <= 0)
		return r;
	n = head->size;
	/* The head ends with an empty line. */
	if (!(n == 1 || (n == 2 && head->data[0] == '\r') ||
	      (n >= 2 && head->data[n - 2] == '\n') ||
	      (n >= 3 && head->data[n - 2] == '\r' && head->data[n - 3] == '\n')))
		return 0;
	r = http_parse_head(response, err);
	if (r < 0)
		return r;
	http_start_body(response);
	return 0;
}

static int http_feed_chunk_line(struct http_response *response, const char **data, size_t *size,
				struct error *err)
{
	uint64_t length = 0;
	const char *p;
	int r = http_collect_line(response, data, size, HTTP_LINE_MAX_BYTES, err);

	if (r <= 0)
		return r;
	p = response->line.data;
	for (int digits = 0;; digits++, p++) {
		int value = *p >= '0' && *p <= '9'   ? *p - '0'
			    : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
			    : *p >= 'A' && *p <= 'F' ? *p - 'A' + 10
						     : -1;

		if (value < 0 && digits > 0)
			break;
		if (value < 0 || digits >= 15)
			return http_response_bad(err, "bad chunk size");
		length = length * 16 + (uint64_t) value;
	}
	if (!*p || !strchr("\r\n; \t", *p))
		return http_response_bad(err, "bad chunk size");
	strbuf_done(&response->line);
	response->left = length;
	response->state = length > 0 ? HTTP_STATE_CHUNK : HTTP_STATE_TRAILER;
	return 0;
}

/* The line between chunks, or the trailers after the last one. */
static int http_feed_other_line(struct http_response *response, const char **data, size_t *size,
				struct error *err)
{
	bool empty;
	int r = http_collect_line(response, data, size, HTTP_LINE_MAX_BYTES, err);

	if (r <= 0)
		return r;
	response->trailer_bytes += response->line.size;
	empty = response->line.size == 1 ||
		(response->line.size == 2 && response->line.data[0] == '\r');
	strbuf_done(&response->line);
	if (response->state == HTTP_STATE_CHUNK_END) {
		response->trailer_bytes = 0;
		if (!empty)
			return http_response_bad(err, "a chunk is longer than it said");
		response->state = HTTP_STATE_CHUNK_LINE;
	} else if (empty) {
		response->state = HTTP_STATE_DONE;
	} else if (response->trailer_bytes > HTTP_TRAILERS_MAX_BYTES) {
		return http_response_bad(err, "too many trailers");
	}
	return 0;
}

static int http_feed_body(struct http_response *response, const char **data, size_t *size,
			  http_body_fn body, void *userdata)
{
	bool until_end = response->state == HTTP_STATE_UNTIL_END;
	size_t take = until_end || *size < response->left ? *size : (size_t) response->left;
	int r = body ? body(userdata, *data, take) : 0;

	if (r < 0)
		return r;
	*data += take;
	*size -= take;
	if (until_end)
		return 0;
	response->left -= take;
	if (response->left == 0)
		response->state = response->state == HTTP_STATE_CHUNK ? HTTP_STATE_CHUNK_END
								      : HTTP_STATE_DONE;
	return 0;
}

int http_response_feed(struct http_response *response, const void *data, size_t size,
		       size_t *ret_used, http_body_fn body, void *userdata, struct error *err)
{
	const char *p = data;
	size_t left = size;
	int r = 0;

	while (left > 0 && response->state != HTTP_STATE_DONE) {
		switch (response->state) {
		case HTTP_STATE_HEAD:
			r = http_feed_head(response, &p, &left, err);
			break;
		case HTTP_STATE_CHUNK_LINE:
			r = http_feed_chunk_line(response, &p, &left, err);
			break;
		case HTTP_STATE_CHUNK_END:
		case HTTP_STATE_TRAILER:
			r = http_feed_other_line(response, &p, &left, err);
			break;
		default:
			r = http_feed_body(response, &p, &left, body, userdata);
		}
		if (r < 0)
			return r;
	}
	*ret_used = size - left;
	return response->state == HTTP_STATE_DONE;
}

int http_response_end(struct http_response *response, struct error *err)
{
	if (response->state == HTTP_STATE_UNTIL_END)
		response->state = HTTP_STATE_DONE;
	if (response->state == HTTP_STATE_DONE)
		return 0;
	if (response->state == HTTP_STATE_HEAD && response->line.size == 0)
		return error_say(err, -ECONNRESET,
				 "the server closed the connection without an answer");
	return error_say(err, -ECONNRESET,
			 "the connection ended in the middle of the server's answer");
}

void http_response_done(struct http_response *response)
{
	strbuf_done(&response->line);
	*response = (struct http_response){};
}
