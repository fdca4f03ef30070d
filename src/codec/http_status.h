#pragma once
/*
 * codec/http_status.h - the number in the first line of an HTTP/1 answer.
 *
 * All that a health check needs of what an instance sends.  Used by probe/.  Pure.
 */
#include <stddef.h>

/* 0; -EAGAIN: the number is not there yet; -EBADMSG: it is no such answer. */
int http_status_parse(const char *data, size_t size, unsigned int *ret);
