#pragma once
/*
 * aml.h - takes the AML of vmm/acpi.c apart and runs its methods, as a guest's interpreter would:
 * names, devices, fields on a bus, and of the language just what acpi.c uses.  Anything else fails
 * the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/bus.h"

enum { AML_OBJECTS_MAX = 512, AML_NOTIFIES_MAX = 128, AML_PATH_MAX = 64 };

enum aml_kind {
	AML_IS_DEVICE,
	AML_IS_INTEGER,
	AML_IS_TEXT,
	AML_IS_METHOD,
	AML_IS_REGION,
	AML_IS_FIELD
};

struct aml_object {
	char path[AML_PATH_MAX]; /* "\_SB_.PCI0.S005._ADR" */
	enum aml_kind kind;
	uint64_t value;            /* integer; region and field: the address */
	const uint8_t *body, *end; /* method */
	unsigned int arguments;    /* method */
};

struct aml_notify {
	char path[AML_PATH_MAX];
	uint64_t value;
};

struct aml {
	struct bus *mmio; /* where fields are read and written */
	struct aml_object objects[AML_OBJECTS_MAX];
	unsigned int count;
	struct aml_notify notifies[AML_NOTIFIES_MAX];
	unsigned int notify_count;
};

static inline unsigned int aml_byte(const uint8_t **at, const uint8_t *end)
{
	assert_true(*at < end);
	return *(*at)++;
}

static inline uint64_t aml_number(const uint8_t **at, const uint8_t *end, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t) aml_byte(at, end) << (8 * i);
	return value;
}

/* The end of the package that begins here. */
static inline const uint8_t *aml_package(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *begin = *at;
	unsigned int first = aml_byte(at, end), more = first >> 6;
	size_t size = more ? first & 0xf : first & 0x3f;

	for (unsigned int i = 0; i < more; i++)
		size |= (size_t) aml_byte(at, end) << (4 + 8 * i);
	assert_true(size <= (size_t) (end - begin) && begin + size >= *at);
	return begin + size;
}

static inline bool aml_is_name(unsigned int c)
{
	return isupper((int) c) || c == '_' || c == '\\' || c == 0x2e || c == 0x2f;
}

/* A name as it stands there: "S005", "\_SB_.PCI0.SCAN". */
static inline void aml_name(const uint8_t **at, const uint8_t *end, char ret[AML_PATH_MAX])
{
	unsigned int segments = 1, c = aml_byte(at, end), n = 0;

	if (c == '\\') {
		ret[n++] = '\\';
		c = aml_byte(at, end);
	}
	if (c == 0x2e || c == 0x2f)
		segments = c == 0x2e ? 2 : aml_byte(at, end);
	else
		(*at)--;
	assert_in_range(segments, 1, 8);
	for (unsigned int i = 0; i < 4 * segments; i++) {
		c = aml_byte(at, end);
		assert_true(isupper((int) c) || c == '_' || (i % 4 > 0 && isdigit((int) c)));
		if (i > 0 && i % 4 == 0)
			ret[n++] = '.';
		ret[n++] = (char) c;
	}
	ret[n] = '\0';
}

static inline struct aml_object *aml_find(struct aml *aml, const char *path)
{
	for (unsigned int i = 0; i < aml->count; i++)
		if (strcmp(aml->objects[i].path, path) == 0)
			return &aml->objects[i];
	return NULL;
}

/* By the rules: absolute, or a single segment in this scope or one around it. */
static inline struct aml_object *aml_resolve(struct aml *aml, const char *scope, const char *name)
{
	char path[2 * AML_PATH_MAX], around[AML_PATH_MAX];
	struct aml_object *found;

	if (*name == '\\')
		return aml_find(aml, name);
	snprintf(around, sizeof(around), "%s", scope);
	for (;;) {
		char *dot = strrchr(around, '.');

		snprintf(path, sizeof(path), "%s.%s", around, name);
		found = aml_find(aml, path);
		if (found || strchr(name, '.') || !dot)
			return found;
		*dot = '\0';
	}
}

static inline struct aml_object *aml_add(struct aml *aml, const char *scope, const char *name,
					 enum aml_kind kind)
{
	struct aml_object *object = &aml->objects[aml->count++];
	char path[2 * AML_PATH_MAX];

	assert_true(aml->count < AML_OBJECTS_MAX);
	snprintf(path, sizeof(path), "%s%s%s", *name == '\\' ? "" : scope, *name == '\\' ? "" : ".",
		 name);
	assert_null(aml_find(aml, path));
	*object = (struct aml_object){ .kind = kind };
	assert_true(strlen(path) < sizeof(object->path));
	memcpy(object->path, path, strlen(path) + 1);
	return object;
}

static inline bool aml_integer(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
	static const uint8_t sizes[] = { [0x0a] = 1, [0x0b] = 2, [0x0c] = 4, [0x0e] = 8 };
	unsigned int c = **at;

	if (c > 1 && (c >= sizeof(sizes) || sizes[c] == 0))
		return false;
	(*at)++;
	*ret = c <= 1 ? c : aml_number(at, end, sizes[c]);
	return true;
}

static inline uint64_t aml_constant(const uint8_t **at, const uint8_t *end)
{
	uint64_t value = 0;

	assert_true(aml_integer(at, end, &value));
	return value;
}

static inline void aml_read_name(struct aml *aml, const char *scope, const uint8_t **at,
				 const uint8_t *end)
{
	char name[AML_PATH_MAX];
	struct aml_object *object;
	unsigned int c;

	aml_name(at, end, name);
	object = aml_add(aml, scope, name, AML_IS_INTEGER);
	if (aml_integer(at, end, &object->value))
		return;
	object->kind = AML_IS_TEXT;
	c = aml_byte(at, end);
	if (c == 0x0d) {
		while (aml_byte(at, end) != 0)
			;
		return;
	}
	assert_true(c == 0x11 || c == 0x12);
	*at = aml_package(at, end);
}

static inline void aml_read_fields(struct aml *aml, const char *scope, const uint8_t *at,
				   const uint8_t *end)
{
	char name[AML_PATH_MAX];
	struct aml_object *region;
	uint64_t address;

	aml_name(&at, end, name);
	region = aml_resolve(aml, scope, name);
	assert_non_null(region);
	assert_int_equal(region->kind, AML_IS_REGION);
	address = region->value;
	assert_int_equal(aml_byte(&at, end), 0x43);
	while (at < end) {
		aml_name(&at, end, name);
		assert_int_equal(aml_byte(&at, end), 32);
		aml_add(aml, scope, name, AML_IS_FIELD)->value = address;
		address += 4;
	}
}

static inline void aml_read(struct aml *aml, const char *scope, const uint8_t *at,
			    const uint8_t *end);

static inline void aml_read_extended(struct aml *aml, const char *scope, const uint8_t **at,
				     const uint8_t *end)
{
	char name[AML_PATH_MAX];
	const uint8_t *inner_end;
	struct aml_object *object;

	switch (aml_byte(at, end)) {
	case 0x80:
		aml_name(at, end, name);
		object = aml_add(aml, scope, name, AML_IS_REGION);
		assert_int_equal(aml_byte(at, end), 0);
		object->value = aml_constant(at, end);
		assert_in_range(aml_constant(at, end), 4, 64);
		return;
	case 0x81:
		inner_end = aml_package(at, end);
		aml_read_fields(aml, scope, *at, inner_end);
		*at = inner_end;
		return;
	case 0x82:
		inner_end = aml_package(at, end);
		aml_name(at, inner_end, name);
		object = aml_add(aml, scope, name, AML_IS_DEVICE);
		aml_read(aml, object->path, *at, inner_end);
		*at = inner_end;
		return;
	default:
		fail_msg("an extended opcode that nobody knows");
	}
}

/* A list of definitions. */
static inline void aml_read(struct aml *aml, const char *scope, const uint8_t *at,
			    const uint8_t *end)
{
	char name[AML_PATH_MAX];
	struct aml_object *object;

	while (at < end) {
		const uint8_t *inner_end;

		switch (aml_byte(&at, end)) {
		case 0x08:
			aml_read_name(aml, scope, &at, end);
			break;
		case 0x10:
			inner_end = aml_package(&at, end);
			aml_name(&at, inner_end, name);
			assert_int_equal(name[0], '\\');
			aml_read(aml, name, at, inner_end);
			at = inner_end;
			break;
		case 0x14:
			inner_end = aml_package(&at, end);
			aml_name(&at, inner_end, name);
			object = aml_add(aml, scope, name, AML_IS_METHOD);
			object->arguments = aml_byte(&at, inner_end) & 7;
			object->body = at;
			object->end = inner_end;
			at = inner_end;
			break;
		case 0x5b:
			aml_read_extended(aml, scope, &at, end);
			break;
		default:
			fail_msg("an opcode that nobody knows");
		}
	}
}

struct aml_frame {
	struct aml *aml;
	const char *scope;
	uint64_t locals[8];
};

static inline uint64_t aml_value(struct aml_frame *frame, const uint8_t **at, const uint8_t *end)
{
	char name[AML_PATH_MAX];
	struct aml_object *object;
	uint64_t value, other;

	if (aml_integer(at, end, &value))
		return value;
	if (**at >= 0x60 && **at < 0x68)
		return frame->locals[*(*at)++ - 0x60];
	if (**at == 0x7b) {
		(*at)++;
		value = aml_value(frame, at, end);
		other = aml_value(frame, at, end);
		assert_int_equal(aml_byte(at, end), 0);
		return value & other;
	}
	aml_name(at, end, name);
	object = aml_resolve(frame->aml, frame->scope, name);
	assert_non_null(object);
	assert_int_equal(object->kind, AML_IS_FIELD);
	return bus_read(frame->aml->mmio, object->value, 4);
}

static inline void aml_run(struct aml *aml, const struct aml_object *method);

static inline void aml_execute(struct aml_frame *frame, const uint8_t *at, const uint8_t *end)
{
	struct aml *aml = frame->aml;
	char name[AML_PATH_MAX];
	struct aml_object *object;
	const uint8_t *inner_end;
	uint64_t value;

	while (at < end) {
		switch (aml_byte(&at, end)) {
		case 0x70:
			value = aml_value(frame, &at, end);
			if (*at >= 0x60 && *at < 0x68) {
				frame->locals[*at++ - 0x60] = value;
				break;
			}
			aml_name(&at, end, name);
			object = aml_resolve(aml, frame->scope, name);
			assert_non_null(object);
			assert_int_equal(object->kind, AML_IS_FIELD);
			bus_write(aml->mmio, object->value, 4, value);
			break;
		case 0x86:
			aml_name(&at, end, name);
			object = aml_resolve(aml, frame->scope, name);
			assert_non_null(object);
			assert_int_equal(object->kind, AML_IS_DEVICE);
			assert_true(aml->notify_count < AML_NOTIFIES_MAX);
			aml->notifies[aml->notify_count].value = aml_value(frame, &at, end);
			strcpy(aml->notifies[aml->notify_count++].path, object->path);
			break;
		case 0xa0:
			inner_end = aml_package(&at, end);
			if (aml_value(frame, &at, inner_end))
				aml_execute(frame, at, inner_end);
			at = inner_end;
			break;
		default:
			at--;
			assert_true(aml_is_name(*at));
			aml_name(&at, end, name);
			object = aml_resolve(aml, frame->scope, name);
			assert_non_null(object);
			assert_int_equal(object->arguments, 0);
			aml_run(aml, object);
		}
	}
}

/* Runs a method; of its arguments none is looked at. */
static inline void aml_run(struct aml *aml, const struct aml_object *method)
{
	struct aml_frame frame = { .aml = aml, .scope = method->path };

	assert_int_equal(method->kind, AML_IS_METHOD);
	aml_execute(&frame, method->body, method->end);
}

static inline void aml_call(struct aml *aml, const char *path)
{
	const struct aml_object *method = aml_find(aml, path);

	assert_non_null(method);
	aml_run(aml, method);
}
