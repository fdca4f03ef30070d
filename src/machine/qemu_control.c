/*
 * control.sock of brume-qemu: calls become QMP commands, their answers become returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/qemu_internal.h"

enum { STEPS_MAX = 8, PROC_MAX = 128, BALLOON_SHARE = 16, QEMU_CPUS_MAX = 64 };

/* One thing that QEMU is asked; without an answer the others are told all the same. */
struct step {
	const char *name, *command, *arguments;
};

/* What a client calls: the steps to it, and what is told of their answers (NULL: that it is done).
 */
struct qemu_method {
	const char *name;
	json_t *(*result)(const struct qemu *qemu, const json_t *answers);
	struct step steps[STEPS_MAX]; /* up to one without a command */
};

int qemu_control_listen(struct qemu *qemu, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/control.sock", qemu->options->run_dir);
	int fd = sock_listen(path, SOCK_STREAM, 0600);

	if (fd < 0)
		return error_set(err, fd, "listen on %s", path);
	qemu->listen_fd = fd;
	return 0;
}

static void drop(struct qemu_client *client)
{
	close(client->fd);
	fd_close(client->given_fd);
	client->fd = client->given_fd = -1;
	client->serial = 0;
	strbuf_done(&client->in);
	strbuf_done(&client->out);
}

static void flush(struct qemu_client *client)
{
	while (client->fd >= 0 && client->out.size > 0) {
		ssize_t n = send(client->fd, client->out.data, client->out.size,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			strbuf_consume(&client->out, (size_t) n);
		} else if (errno != EINTR) {
			if (errno != EAGAIN || client->out.size > QEMU_OUT_BYTES_MAX)
				drop(client);
			return;
		}
	}
}

/* Steals `body`. */
static void send_return(struct qemu_client *client, uint64_t id, json_t *body)
{
	frame_append_json(&client->out, FRAME_RETURN, id, body);
	json_decref(body);
	flush(client);
}

static void send_error(struct qemu_client *client, uint64_t id, const char *text)
{
	send_return(client, id, json_pack("{s:s}", "error", text));
}

static json_t *info(const struct qemu *qemu)
{
	const char *state = qemu->cause != QMP_CAUSE_NONE ? "ended"
			    : qemu->paused                ? "paused"
							  : "running";

	return json_pack("{s:{s:s, s:s*, s:s, s:b, s:o}}", "result", "backend", "qemu", "version",
			 qemu->version, "state", state, "guest_open", qemu->guest_open, "cards",
			 qemu_cards_json(qemu));
}

static struct qemu_call *free_call(struct qemu *qemu)
{
	for (unsigned int i = 0; i < QEMU_CALLS_MAX; i++)
		if (qemu->calls[i].qmp_id == 0)
			return &qemu->calls[i];
	return NULL;
}

/* -- what is told of QEMU's answers -------------------------------------------------------------
 */

static json_t *balloon_result(const struct qemu *qemu, const json_t *answers)
{
	uint64_t size = qmp_number(json_object_get(answers, "memory"), "base-memory");
	uint64_t actual = qmp_number(json_object_get(answers, "actual"), "actual");

	(void) qemu;
	return json_pack("{s:I, s:I, s:o}", "memory_bytes", (json_int_t) size, "balloon_bytes",
			 (json_int_t) (actual < size ? size - actual : 0), "guest",
			 qmp_guest_statistics(json_object_get(answers, "guest")));
}

/* The processor time of one of QEMU's threads, as the kernel counts it. */
static int read_thread_ns(const struct qemu *qemu, uint64_t thread, json_int_t *ret)
{
	AUTO(free) char *text = NULL;
	char path[64], *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%llu/schedstat", (int) qemu->pid,
		 (unsigned long long) thread);
	int r = file_read(AT_FDCWD, path, PROC_MAX, &text, NULL);
	if (r < 0)
		return r;
	*ret = strtoll(text, &end, 10);
	return end == text || *ret < 0 ? -EINVAL : 0;
}

static json_t *cpu_times(const struct qemu *qemu, const json_t *cpus)
{
	json_t *times = json_array();
	const json_t *cpu;
	json_int_t ns = 0;
	size_t i;

	json_array_foreach(cpus, i, cpu)
	{
		if (i >= QEMU_CPUS_MAX ||
		    read_thread_ns(qemu, qmp_number(cpu, "thread-id"), &ns) < 0)
			break;
		json_array_append_new(times, json_pack("{s:I}", "thread_ns", ns));
	}
	return times;
}

/* TCG counts nothing: what there is of it is the time of its threads. */
static json_t *metrics_result(const struct qemu *qemu, const json_t *answers)
{
	bool kvm =
		json_is_true(json_object_get(json_object_get(answers, "accelerator"), "enabled"));
	json_t *metrics = json_object();

	json_object_set_new(metrics, "accelerator", json_string(kvm ? "kvm" : "tcg"));
	json_object_set_new(metrics, "cpus", cpu_times(qemu, json_object_get(answers, "cpus")));
	json_object_set_new(metrics, "disks", qmp_disk_metrics(json_object_get(answers, "disks")));
	json_object_set_new(metrics, "memory",
			    json_pack("{s:I}", "size_bytes",
				      (json_int_t) qmp_number(json_object_get(answers, "memory"),
							      "base-memory")));
	if (!kvm)
		return metrics;
	json_object_set_new(metrics, "kvm", qmp_kvm_counters(json_object_get(answers, "kvm")));
	json_object_set_new(metrics, "kvm_cpus",
			    qmp_kvm_counters(json_object_get(answers, "kvm_cpus")));
	return metrics;
}

#define MEMORY_STEP                                                                                \
	{                                                                                          \
		"memory", "query-memory-size-summary", NULL                                        \
	}
#define BALLOON_STEPS                                                                              \
	{ "actual", "query-balloon", NULL },                                                       \
	{                                                                                          \
		"guest", "qom-get", "{\"path\":\"" QEMU_BALLOON "\",\"property\":\"guest-stats\"}" \
	}

/* All counters of 64 CPUs would not fit into a line. */
#define CPU_COUNTERS                                                                               \
	"\"exits\",\"io_exits\",\"mmio_exits\",\"halt_exits\",\"irq_exits\",\"irq_window_exits\"," \
	"\"nmi_window_exits\",\"signal_exits\",\"request_irq_exits\",\"irq_injections\","          \
	"\"nmi_injections\",\"hypercalls\",\"insn_emulation\",\"insn_emulation_fail\","            \
	"\"host_state_reload\",\"fpu_reload\",\"pf_taken\",\"pf_fixed\",\"pf_emulate\","           \
	"\"pf_spurious\",\"pf_mmio_spte_created\",\"tlb_flush\",\"invlpg\",\"halt_wakeup\","       \
	"\"preemption_reported\",\"mmio_exit_user\",\"mmio_exit_kernel\",\"wfi_exit_stat\","       \
	"\"wfe_exit_stat\",\"hvc_exit_stat\""

static const struct qemu_method methods[] = {
	{ "pause", NULL, { { "done", "stop", NULL } } },
	{ "resume", NULL, { { "done", "cont", NULL } } },
	{ "power_button", NULL, { { "done", "system_powerdown", NULL } } },
	{ "reset", NULL, { { "done", "system_reset", NULL } } },
	{ "quit", NULL, { { "done", "quit", NULL } } },
	{ "balloon",
	  balloon_result,
	  { MEMORY_STEP, { "target", "balloon", NULL }, BALLOON_STEPS } },
	{ "metrics",
	  metrics_result,
	  { MEMORY_STEP,
	    { "disks", "query-blockstats", NULL },
	    { "accelerator", "query-kvm", NULL },
	    { "cpus", "query-cpus-fast", NULL },
	    { "kvm", "query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\"}]}" },
	    { "kvm_cpus", "query-stats",
	      "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"kvm\",\"names\":[" CPU_COUNTERS
	      "]}]}" } } },
};

/* -- calls --------------------------------------------------------------------------------------
 */

static struct qemu_client *find_client(struct qemu *qemu, uint64_t serial)
{
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		if (qemu->clients[i].fd >= 0 && qemu->clients[i].serial == serial)
			return &qemu->clients[i];
	return NULL;
}

static struct qemu_client *client_of(struct qemu *qemu, const struct qemu_call *call)
{
	return find_client(qemu, call->client_serial);
}

void qemu_control_return(struct qemu *qemu, uint64_t client_serial, uint64_t frame_id, json_t *body)
{
	struct qemu_client *client = find_client(qemu, client_serial);

	if (client)
		send_return(client, frame_id, body);
	else
		json_decref(body);
}

static void call_done(struct qemu_call *call)
{
	json_decref(call->answers);
	*call = (struct qemu_call){};
}

static void call_failed(struct qemu *qemu, struct qemu_call *call, const char *text)
{
	struct qemu_client *client = client_of(qemu, call);

	if (client)
		send_error(client, call->frame_id, text);
	call_done(call);
}

static void call_answered(struct qemu *qemu, struct qemu_call *call)
{
	struct qemu_client *client = client_of(qemu, call);
	const struct qemu_method *method = call->method;

	if (client)
		send_return(client, call->frame_id,
			    json_pack("{s:o}", "result",
				      method->result ? method->result(qemu, call->answers)
						     : json_object()));
	call_done(call);
}

/* The same bounds, in the same words, as brume-vmm's. */
static int check_target(const struct qemu_call *call, char *why, size_t why_size)
{
	uint64_t size = qmp_number(json_object_get(call->answers, "memory"), "base-memory");

	if (call->target_bytes <= size && call->target_bytes >= size / BALLOON_SHARE)
		return 0;
	snprintf(why, why_size, "\"target_bytes\" must be from %llu to %llu, the guest's memory",
		 (unsigned long long) size / BALLOON_SHARE, (unsigned long long) size);
	return -ERANGE;
}

/* Asks QEMU the next thing, or tells the client what it has said. */
static void go_on(struct qemu *qemu, struct qemu_call *call)
{
	const struct step *step = &call->method->steps[call->step];
	AUTO(free) char *target = NULL;
	char why[128];

	if (call->step < STEPS_MAX && step->command && strcmp(step->name, "target") == 0) {
		if (!call->has_target) {
			step = &call->method->steps[++call->step];
		} else if (check_target(call, why, sizeof(why)) < 0) {
			call_failed(qemu, call, why);
			return;
		} else {
			target = mem_printf("{\"value\":%llu}",
					    (unsigned long long) call->target_bytes);
		}
	}
	if (call->step == STEPS_MAX || !step->command) {
		call_answered(qemu, call);
		return;
	}
	call->qmp_id = ++qemu->next_qmp_id;
	qmp_append_command(&qemu->qmp_out, step->command, target ? target : step->arguments,
			   call->qmp_id);
}

static const struct qemu_method *find_method(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(methods); i++)
		if (strcmp(name, methods[i].name) == 0)
			return &methods[i];
	return NULL;
}

/* Only the balloon has an argument. */
static int read_arguments(const json_t *arguments, struct qemu_call *call, struct error *err)
{
	struct json_reader in = { .err = err, .where = "arguments" };

	if (call->method->result == balloon_result) {
		json_read_uint64(&in, arguments, "target_bytes", &call->target_bytes);
		call->has_target = json_object_get(arguments, "target_bytes");
	}
	return json_reader_finish(&in, arguments);
}

static void call(struct qemu *qemu, struct qemu_client *client, uint64_t id, const char *name,
		 const json_t *arguments)
{
	struct qemu_call *slot = free_call(qemu);
	struct qemu_call call = { .client_serial = client->serial,
				  .frame_id = id,
				  .method = find_method(name) };
	struct error err = {};

	if (strcmp(name, "info") == 0) {
		send_return(client, id, info(qemu));
		return;
	}
	if (strcmp(name, "add_nic") == 0 || strcmp(name, "remove") == 0) {
		int r = name[0] == 'a' ? qemu_cards_add(qemu, client, id, arguments, &err)
				       : qemu_cards_remove(qemu, client, id, arguments, &err);
		if (r < 0)
			send_error(client, id, err.msg);
		return;
	}
	if (!call.method) {
		send_error(client, id, "QEMU has no such method");
		return;
	}
	if (read_arguments(arguments, &call, &err) < 0) {
		send_error(client, id, err.msg);
		return;
	}
	if (!slot) {
		send_error(client, id, "too many calls at once");
		return;
	}
	call.answers = json_object();
	*slot = call;
	go_on(qemu, slot);
}

static int on_frame(struct qemu *qemu, struct qemu_client *client, const struct frame *frame)
{
	AUTO(json_decref) json_t *body = NULL;
	AUTO(free) char *method = NULL;
	AUTO(json_decref) json_t *none = json_object();
	struct json_reader in = { .where = "call" };
	json_t *arguments = none;

	if (frame->type != FRAME_CALL || frame->size > QEMU_CALL_BYTES_MAX ||
	    frame_json(frame, &body, NULL) < 0)
		return -EPROTO;
	json_read_string(&in, body, "method", &method);
	json_read_object(&in, body, "arguments", &arguments);
	if (json_reader_finish(&in, body) < 0 || !method)
		return -EPROTO;
	call(qemu, client, frame->id, method, arguments);
	return 0;
}

static int read_frames(struct qemu *qemu, struct qemu_client *client)
{
	size_t offset = 0, used = 0;
	struct frame frame;
	int r = 1;

	while (client->fd >= 0 && r > 0) {
		r = frame_decode(client->in.data + offset, client->in.size - offset, &frame, &used,
				 NULL);
		if (r <= 0)
			break;
		offset += used;
		if (on_frame(qemu, client, &frame) < 0)
			return -EPROTO;
	}
	if (client->fd >= 0)
		strbuf_consume(&client->in, offset);
	return r < 0 || client->in.size > QEMU_CALL_BYTES_MAX + FRAME_HEADER_SIZE ? -EPROTO : 0;
}

void qemu_control_accept(struct qemu *qemu)
{
	int fd = sock_accept(qemu->listen_fd);

	for (unsigned int i = 0; fd >= 0 && i < QEMU_CLIENTS_MAX; i++) {
		if (qemu->clients[i].fd >= 0)
			continue;
		qemu->clients[i] = (struct qemu_client){ .fd = TAKE_FD(fd),
							 .serial = ++qemu->next_serial,
							 .given_fd = -1 };
	}
	fd_close(fd);
}

/* One descriptor at most comes with a piece. */
static ssize_t receive(struct qemu_client *client, void *data, size_t size)
{
	int fds[SOCK_FDS_MAX];
	size_t count = 0;
	ssize_t n = sock_recv(client->fd, data, size, fds, &count);

	if (count > 0)
		client->given_fd = fds[0];
	for (size_t i = 1; i < count; i++)
		close(fds[i]);
	return count > 1 ? -EPROTO : n;
}

void qemu_control_ready(struct qemu *qemu, struct qemu_client *client, short revents)
{
	enum { PIECE = 4096 };

	if (revents & POLLOUT)
		flush(client);
	if (client->fd < 0 || !(revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	ssize_t n = receive(client, strbuf_reserve(&client->in, PIECE), PIECE);
	if (n == -EAGAIN)
		return;
	if (n > 0)
		strbuf_grown(&client->in, (size_t) n);
	/* A descriptor that no call has taken by now is nobody's. */
	if (n <= 0 || read_frames(qemu, client) < 0 || client->given_fd >= 0)
		if (client->fd >= 0)
			drop(client);
}

/* What cannot be done is an error; what cannot be told is left out. */
void qemu_control_answered(struct qemu *qemu, const struct qmp_message *message)
{
	struct qemu_call *found = NULL;

	for (unsigned int i = 0; message->id != 0 && i < QEMU_CALLS_MAX; i++)
		if (qemu->calls[i].qmp_id == message->id)
			found = &qemu->calls[i];
	if (!found)
		return;
	const struct step *step = &found->method->steps[found->step];
	if (message->kind == QMP_RETURN) {
		json_object_set(found->answers, step->name, message->data);
	} else if (!found->method->result || strcmp(step->name, "target") == 0) {
		call_failed(qemu, found, message->text);
		return;
	} else if (strcmp(step->name, "actual") == 0) {
		call_failed(qemu, found, "the machine has no balloon");
		return;
	}
	found->step++;
	go_on(qemu, found);
}

void qemu_control_done(struct qemu *qemu)
{
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		if (qemu->clients[i].fd >= 0)
			drop(&qemu->clients[i]);
	for (unsigned int i = 0; i < QEMU_CALLS_MAX; i++)
		call_done(&qemu->calls[i]);
	fd_close(qemu->listen_fd);
	qemu->listen_fd = -1;
}
