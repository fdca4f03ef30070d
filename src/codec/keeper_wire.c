#include "codec/keeper_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"

enum tag {
	TAG_JOB = 1,
	TAG_MODE,
	TAG_STDIO,
	TAG_PHASE,
	TAG_PID,
	TAG_START_TIME,
	TAG_EXIT_KIND,
	TAG_EXIT_VALUE,
	TAG_SIGNAL,
	TAG_LOG_MAX,
	TAG_OWNER_UID,
	TAG_OWNER_GID,
	TAG_CWD,
	TAG_LOG,
	TAG_PID_FILE,
	TAG_MESSAGE,
	TAG_ARGV,
	TAG_ENV,
	TAG_FDS,
	TAG_INPUT,
	TAG_LOG_FILES,
};

enum { FIELD_HEADER_SIZE = 6 };

bool keeper_job_valid(const char *job)
{
	size_t size = strlen(job);

	return size > 0 && size <= KEEPER_JOB_MAX &&
	       strspn(job, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
		       size;
}

struct keeper_strings keeper_strings_pack(struct strbuf *buffer, char *const *strv)
{
	struct keeper_strings strings = {};

	for (; strv && strv[strings.count]; strings.count++)
		strbuf_append(buffer, strv[strings.count], strlen(strv[strings.count]) + 1);
	strings.data = strbuf_str(buffer);
	strings.size = buffer->size;
	return strings;
}

char **keeper_strings_unpack(const struct keeper_strings *strings)
{
	char **strv = mem_new0_array(char *, strings->count + 1);
	const char *p = strings->data;

	for (unsigned int i = 0; i < strings->count; i++, p += strlen(p) + 1)
		strv[i] = (char *) p;
	return strv;
}

static void put(struct strbuf *buffer, enum tag tag, const void *data, size_t size)
{
	uint16_t tag16 = (uint16_t) tag;
	uint32_t size32 = (uint32_t) size;

	strbuf_append(buffer, &tag16, sizeof(tag16));
	strbuf_append(buffer, &size32, sizeof(size32));
	strbuf_append(buffer, data, size);
}

static void put_u64(struct strbuf *buffer, enum tag tag, uint64_t value)
{
	if (value != 0)
		put(buffer, tag, &value, sizeof(value));
}

static void put_text(struct strbuf *buffer, enum tag tag, const char *text)
{
	if (text)
		put(buffer, tag, text, strlen(text) + 1);
}

int keeper_msg_encode(const struct keeper_msg *msg, struct strbuf *buffer)
{
	size_t before = buffer->size;
	uint16_t type = (uint16_t) msg->type;

	strbuf_append(buffer, &type, sizeof(type));
	if (msg->job[0])
		put_text(buffer, TAG_JOB, msg->job);
	put_u64(buffer, TAG_MODE, msg->mode);
	put_u64(buffer, TAG_STDIO, msg->stdio);
	put_u64(buffer, TAG_PHASE, msg->phase);
	put_u64(buffer, TAG_PID, (uint32_t) msg->pid);
	put_u64(buffer, TAG_START_TIME, msg->start_time);
	put_u64(buffer, TAG_EXIT_KIND, msg->exit_kind);
	put_u64(buffer, TAG_EXIT_VALUE, (uint32_t) msg->exit_value);
	put_u64(buffer, TAG_SIGNAL, (uint32_t) msg->signal);
	put_u64(buffer, TAG_LOG_MAX, msg->log_max_bytes);
	put_u64(buffer, TAG_INPUT, msg->input);
	put_u64(buffer, TAG_LOG_FILES, msg->log_max_files);
	put_u64(buffer, TAG_OWNER_UID, msg->owner_uid);
	put_u64(buffer, TAG_OWNER_GID, msg->owner_gid);
	put_text(buffer, TAG_CWD, msg->cwd);
	put_text(buffer, TAG_LOG, msg->log);
	put_text(buffer, TAG_PID_FILE, msg->pid_file);
	put_text(buffer, TAG_MESSAGE, msg->message);
	if (msg->argv.count > 0)
		put(buffer, TAG_ARGV, msg->argv.data, msg->argv.size);
	if (msg->env.count > 0)
		put(buffer, TAG_ENV, msg->env.data, msg->env.size);
	if (msg->fd_count > 0)
		put(buffer, TAG_FDS, msg->fds, msg->fd_count * sizeof(msg->fds[0]));
	return buffer->size - before > KEEPER_MSG_MAX ? -EMSGSIZE : 0;
}

static int get_u64(const char *p, size_t size, uint64_t max, uint64_t *ret)
{
	uint64_t value;

	if (size != sizeof(value))
		return -EBADMSG;
	memcpy(&value, p, sizeof(value));
	if (value > max)
		return -EBADMSG;
	*ret = value;
	return 0;
}

static int get_text(const char *p, size_t size, const char **ret)
{
	if (size == 0 || size > KEEPER_TEXT_MAX || memchr(p, '\0', size) != p + size - 1)
		return -EBADMSG;
	*ret = p;
	return 0;
}

static int get_strings(const char *p, size_t size, struct keeper_strings *ret)
{
	struct keeper_strings strings = { .data = p, .size = size };

	if (size == 0 || p[size - 1] != '\0')
		return -EBADMSG;
	for (size_t i = 0; i < size; i++)
		strings.count += p[i] == '\0';
	if (strings.count > KEEPER_STRINGS_MAX)
		return -EBADMSG;
	*ret = strings;
	return 0;
}

static int get_fds(const char *p, size_t size, struct keeper_msg *msg)
{
	if (size % sizeof(msg->fds[0]) != 0 || size > sizeof(msg->fds))
		return -EBADMSG;
	memcpy(msg->fds, p, size);
	msg->fd_count = (unsigned int) (size / sizeof(msg->fds[0]));
	for (unsigned int i = 0; i < msg->fd_count; i++)
		if (msg->fds[i] < -1)
			return -EBADMSG;
	return 0;
}

static int get_phase(const char *p, size_t size, struct keeper_msg *msg)
{
	uint64_t value;

	if (get_u64(p, size, KEEPER_EXITED, &value) < 0 || value < KEEPER_STARTING)
		return -EBADMSG;
	msg->phase = (enum keeper_type) value;
	return 0;
}

static int get_job(const char *p, size_t size, struct keeper_msg *msg)
{
	const char *job;

	if (get_text(p, size, &job) < 0 || !keeper_job_valid(job))
		return -EBADMSG;
	memcpy(msg->job, job, size);
	return 0;
}

/* Reads one number with a limit into a member of any integer or enum type. */
#define GET_NUMBER(member, max)                                                                    \
	({                                                                                         \
		uint64_t number_ = 0;                                                              \
		int result_ = get_u64(p, size, max, &number_);                                     \
		if (result_ == 0)                                                                  \
			msg->member = (__typeof__(msg->member)) number_;                           \
		result_;                                                                           \
	})

static int get_field(unsigned int tag, const char *p, size_t size, struct keeper_msg *msg)
{
	switch (tag) {
	case TAG_JOB:
		return get_job(p, size, msg);
	case TAG_MODE:
		return GET_NUMBER(mode, KEEPER_PID_FILE);
	case TAG_STDIO:
		return GET_NUMBER(stdio, KEEPER_GIVEN);
	case TAG_PHASE:
		return get_phase(p, size, msg);
	case TAG_PID:
		return GET_NUMBER(pid, INT32_MAX);
	case TAG_START_TIME:
		return GET_NUMBER(start_time, UINT64_MAX);
	case TAG_EXIT_KIND:
		return GET_NUMBER(exit_kind, KEEPER_EXIT_UNKNOWN);
	case TAG_EXIT_VALUE:
		return GET_NUMBER(exit_value, 255);
	case TAG_SIGNAL:
		return GET_NUMBER(signal, 64);
	case TAG_LOG_MAX:
		return GET_NUMBER(log_max_bytes, UINT64_MAX);
	case TAG_INPUT:
		return GET_NUMBER(input, KEEPER_INPUT_TERMINAL);
	case TAG_LOG_FILES:
		return GET_NUMBER(log_max_files, KEEPER_LOG_FILES_MAX);
	case TAG_OWNER_UID:
		return GET_NUMBER(owner_uid, UINT32_MAX);
	case TAG_OWNER_GID:
		return GET_NUMBER(owner_gid, UINT32_MAX);
	case TAG_CWD:
		return get_text(p, size, &msg->cwd);
	case TAG_LOG:
		return get_text(p, size, &msg->log);
	case TAG_PID_FILE:
		return get_text(p, size, &msg->pid_file);
	case TAG_MESSAGE:
		return get_text(p, size, &msg->message);
	case TAG_ARGV:
		return get_strings(p, size, &msg->argv);
	case TAG_ENV:
		return get_strings(p, size, &msg->env);
	case TAG_FDS:
		return get_fds(p, size, msg);
	default:
		return 0;
	}
}

static bool type_known(unsigned int type)
{
	return (type >= KEEPER_SPAWN && type <= KEEPER_HOLD) ||
	       (type >= KEEPER_STARTING && type <= KEEPER_REFUSED) ||
	       (type >= KEEPER_RECORD && type <= KEEPER_SOCKETS);
}

/* What the receiver of each type relies on. */
static bool complete(const struct keeper_msg *msg)
{
	switch (msg->type) {
	case KEEPER_LIST:
	case KEEPER_REEXEC:
	case KEEPER_LISTED:
	case KEEPER_REFUSED:
	case KEEPER_SOCKETS:
		return true;
	case KEEPER_SPAWN:
		return msg->job[0] && msg->argv.count > 0 &&
		       (msg->mode != KEEPER_PID_FILE || msg->pid_file) &&
		       (msg->input == KEEPER_INPUT_NONE || msg->stdio == KEEPER_LOGGED) &&
		       (msg->stdio != KEEPER_LOGGED || msg->log);
	case KEEPER_RECORD:
		return msg->job[0] && msg->phase != 0 &&
		       (msg->mode != KEEPER_PID_FILE || msg->pid_file) &&
		       (msg->stdio != KEEPER_LOGGED || msg->log);
	case KEEPER_SIGNAL:
		return msg->job[0] && msg->signal > 0;
	default:
		return msg->job[0];
	}
}

int keeper_msg_decode(const void *data, size_t size, struct keeper_msg *ret)
{
	struct keeper_msg msg = {};
	const char *p = data;
	uint16_t type;

	if (size < sizeof(type) || size > KEEPER_MSG_MAX)
		return -EBADMSG;
	memcpy(&type, p, sizeof(type));
	if (!type_known(type))
		return -EBADMSG;
	msg.type = (enum keeper_type) type;
	p += sizeof(type);
	size -= sizeof(type);

	while (size > 0) {
		uint16_t tag;
		uint32_t field_size;

		if (size < FIELD_HEADER_SIZE)
			return -EBADMSG;
		memcpy(&tag, p, sizeof(tag));
		memcpy(&field_size, p + sizeof(tag), sizeof(field_size));
		p += FIELD_HEADER_SIZE;
		size -= FIELD_HEADER_SIZE;
		if (field_size > size || get_field(tag, p, field_size, &msg) < 0)
			return -EBADMSG;
		p += field_size;
		size -= field_size;
	}
	if (!complete(&msg))
		return -EBADMSG;
	*ret = msg;
	return 0;
}
