#include "agent/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { RECORD_SIZE_MAX = 16 * 1024, SLOT_MAX = 32767 };

void record_init(struct record *record)
{
	*record = (struct record){ .exit_code = -1 };
}

static void read_fixed(struct json_reader *in, const json_t *object, const char *name, char *ret,
		       size_t size)
{
	AUTO(free) char *text = NULL;

	if (json_read_string(in, object, name, &text) == 0 && text)
		snprintf(ret, size, "%s", text);
}

static int decode(const json_t *object, struct record *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	struct record record;
	uint32_t sick = PLAN_SICK_NO;
	int r;

	record_init(&record);
	json_read_uint32(&in, object, "slot", SLOT_MAX, &record.slot);
	json_read_uint64(&in, object, "start_seq", &record.start_seq);
	json_read_uint32(&in, object, "restarts", UINT32_MAX, &record.restarts);
	json_read_bool(&in, object, "ended", &record.ended);
	json_read_bool(&in, object, "failed", &record.failed);
	json_read_bool(&in, object, "exited", &record.exited);
	json_read_uint32(&in, object, "sick", PLAN_SICK_STOP, &sick);
	json_read_int(&in, object, "exit_code", -1, 255, &record.exit_code);
	json_read_time(&in, object, "started", &record.started_ms);
	json_read_time(&in, object, "finished", &record.finished_ms);
	read_fixed(&in, object, "run_id", record.run_id, sizeof(record.run_id));
	read_fixed(&in, object, "image_digest", record.image_digest, sizeof(record.image_digest));
	json_read_string(&in, object, "error", &record.error);
	r = json_reader_finish(&in, object);
	if (r < 0) {
		record_done(&record);
		return r;
	}
	record.sick = (enum plan_sick) sick;
	*ret = record;
	return 0;
}

int record_load(const char *path, struct record *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, RECORD_SIZE_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "read %s", path);
	r = json_parse(text, size, RECORD_SIZE_MAX, &object, err);
	if (r == 0)
		r = decode(object, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

int record_store(const char *path, const struct record *record, struct error *err)
{
	AUTO(json_decref) json_t *object = json_object();
	int r;

	json_object_set_new(object, "slot", json_integer(record->slot));
	json_object_set_new(object, "start_seq", json_integer((json_int_t) record->start_seq));
	json_object_set_new(object, "restarts", json_integer(record->restarts));
	json_object_set_new(object, "ended", json_boolean(record->ended));
	json_object_set_new(object, "failed", json_boolean(record->failed));
	json_object_set_new(object, "exited", json_boolean(record->exited));
	if (record->sick != PLAN_SICK_NO)
		json_object_set_new(object, "sick", json_integer(record->sick));
	json_object_set_new(object, "exit_code", json_integer(record->exit_code));
	json_put_time(object, "started", record->started_ms);
	json_put_time(object, "finished", record->finished_ms);
	json_put_string(object, "run_id", record->run_id);
	json_put_string(object, "image_digest", record->image_digest);
	/* What is not UTF-8 cannot be kept in JSON; the line is for people and may be missing. */
	if (record->error) {
		json_t *error = json_string(record->error);
		if (error)
			json_object_set_new(object, "error", error);
	}
	AUTO(free) char *text = json_text(object);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

void record_copy(struct record *to, const struct record *from)
{
	*to = *from;
	to->error = mem_strdup(from->error);
}

void record_done(struct record *record)
{
	free(record->error);
	record->error = NULL;
}
