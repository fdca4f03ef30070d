#include "model/stdio_options.h"

#include "base/json.h"
#include "model/member.h"

const char *const stdin_mode_names[] = { "none", "open", "once", NULL };

static void read_log(struct json_reader *in, const json_t *object, struct stdio_options *stdio)
{
	char path[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err, .where = member_path(path, in->where, "log") };
	json_t *value = NULL;

	json_read_object(in, object, "log", &value);
	if (in->result < 0 || !value)
		return;
	json_read_uint64(&sub, value, "max_bytes", &stdio->log_max_bytes);
	json_read_uint32(&sub, value, "max_files", LOG_FILES_MAX, &stdio->log_max_files);
	if (stdio->log_max_bytes &&
	    (stdio->log_max_bytes < LOG_BYTES_MIN || stdio->log_max_bytes > LOG_BYTES_MAX))
		member_fail(&sub, "max_bytes", "must be from %llu (64 KiB) to %llu (1 GiB)",
			    (unsigned long long) LOG_BYTES_MIN, (unsigned long long) LOG_BYTES_MAX);
	if (stdio->log_max_files && stdio->log_max_files < LOG_FILES_MIN)
		member_fail(&sub, "max_files", "must be from %d to %d", LOG_FILES_MIN,
			    LOG_FILES_MAX);
	in->result = json_reader_finish(&sub, value);
}

void stdio_options_read(struct json_reader *in, const json_t *object, struct stdio_options *stdio)
{
	unsigned int mode = stdio->stdin_mode;

	json_read_bool(in, object, "tty", &stdio->tty);
	member_read_enum(in, object, "stdin", stdin_mode_names, &mode);
	stdio->stdin_mode = (enum stdin_mode) mode;
	read_log(in, object, stdio);
}

void stdio_options_put(json_t *object, const struct stdio_options *stdio)
{
	json_t *log;

	if (stdio->tty)
		json_object_set_new(object, "tty", json_true());
	if (stdio->stdin_mode != STDIN_NONE)
		json_put_string(object, "stdin", stdin_mode_names[stdio->stdin_mode]);
	if (!stdio->log_max_bytes && !stdio->log_max_files)
		return;
	log = json_object();
	member_put_uint(log, "max_bytes", stdio->log_max_bytes);
	member_put_uint(log, "max_files", stdio->log_max_files);
	json_object_set_new(object, "log", log);
}
