#include "machine/qemu_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/sock.h"
#include "machine/qemu_internal.h"

/* docs/design/0007-virtual-machines.md */
enum { EXIT_ENDED = 0, EXIT_NOT_RUN = 1, EXIT_RESET = 3, EXIT_CRASHED = 4 };

enum { PIECE = 16 * 1024, STATUS_LINE_MAX = 1024, STATUS_LINES_MAX = 64, DRAIN_MAX = 256 };

static void write_status(struct qemu *qemu, const char *line)
{
	AUTO(free) char *text = mem_printf("%s\n", line);

	/* There is nobody to tell when this fails: the machine then ends without a word. */
	(void) file_write_atomic(qemu->dir_fd, "status", text, strlen(text), 0644, 0);
}

/* -- what arrives -------------------------------------------------------------------------------
 */

/* Reads what is there; 0 and the end is remembered when there will be nothing more. */
static size_t take(int *fd, void *buffer, size_t size)
{
	ssize_t n = read(*fd, buffer, size);

	if (n > 0)
		return (size_t) n;
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(*fd);
		*fd = -1;
	}
	return 0;
}

/* One line of the guest, to be kept only when it says what design 0007 allows. */
static void on_status_line(struct qemu *qemu, const char *line, size_t size)
{
	AUTO(strbuf_done) struct strbuf text = {};

	if (qemu->status_count >= STATUS_LINES_MAX ||
	    (strncmp(line, "exit ", 5) != 0 && strncmp(line, "error ", 6) != 0 &&
	     strncmp(line, "refused ", 8) != 0))
		return;
	qemu->status_count++;
	strbuf_put_printable(&text, line, size);
	write_status(qemu, strbuf_str(&text));
}

static void on_status(struct qemu *qemu)
{
	struct strbuf *in = &qemu->status_line;
	size_t n = take(&qemu->ends.status, strbuf_reserve(in, STATUS_LINE_MAX), STATUS_LINE_MAX);
	char *end;

	strbuf_grown(in, n);
	while (in->size > 0 && (end = memchr(in->data, '\n', in->size))) {
		*end = '\0';
		on_status_line(qemu, in->data, (size_t) (end - in->data));
		strbuf_consume(in, (size_t) (end - in->data) + 1);
	}
	if (in->size > STATUS_LINE_MAX)
		strbuf_consume(in, in->size);
}

static void on_console(struct qemu *qemu, int *fd)
{
	char buffer[PIECE];
	size_t n = take(fd, buffer, sizeof(buffer));

	ring_put(qemu->console, buffer, n);
}

static void flush_log(struct qemu *qemu)
{
	/* Below PIPE_BUF: it never blocks once there is room. */
	enum { PIECE_OF_LOG = 4096 };

	while (qemu->log_fd >= 0 && qemu->log_out.size > 0) {
		struct pollfd ready = { qemu->log_fd, POLLOUT, 0 };
		size_t size = qemu->log_out.size;
		ssize_t n;

		if (poll(&ready, 1, 0) <= 0)
			return;
		n = write(qemu->log_fd, qemu->log_out.data,
			  size < PIECE_OF_LOG ? size : PIECE_OF_LOG);
		if (n > 0) {
			strbuf_consume(&qemu->log_out, (size_t) n);
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* Nobody reads the log any more. */
		close(qemu->log_fd);
		qemu->log_fd = -1;
		strbuf_done(&qemu->log_out);
	}
}

/* Lines end as they do in logs; a serial line has a carriage return in front of each end. */
static void log_put(struct qemu *qemu, const char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (qemu->log_return && bytes[i] != '\n')
			strbuf_append(&qemu->log_out, "\r", 1);
		qemu->log_return = bytes[i] == '\r';
		if (!qemu->log_return)
			strbuf_append(&qemu->log_out, &bytes[i], 1);
	}
	flush_log(qemu);
}

static void on_early(struct qemu *qemu)
{
	char buffer[PIECE];
	size_t n = take(&qemu->ends.early, buffer, sizeof(buffer));

	ring_put(qemu->console, buffer, n);
	if (qemu->log_fd >= 0)
		log_put(qemu, buffer, n);
}

static void on_words(struct qemu *qemu)
{
	size_t n = take(&qemu->ends.words, strbuf_reserve(&qemu->words, PIECE), PIECE);

	strbuf_grown(&qemu->words, n);
	if (qemu->words.size > QEMU_WORDS_MAX)
		strbuf_consume(&qemu->words, qemu->words.size - QEMU_WORDS_MAX);
}

static void on_event(struct qemu *qemu, const struct qmp_message *message)
{
	const char *id = json_string_value(json_object_get(message->data, "id"));
	const char *device = json_string_value(json_object_get(message->data, "device"));

	if (strcmp(message->text, "SHUTDOWN") == 0)
		qemu->cause = qmp_shutdown_cause(message->data);
	else if (strcmp(message->text, "GUEST_PANICKED") == 0)
		qemu->cause = QMP_CAUSE_PANIC;
	else if (strcmp(message->text, "STOP") == 0)
		qemu->paused = true;
	else if (strcmp(message->text, "RESUME") == 0)
		qemu->paused = false;
	else if (strcmp(message->text, "DEVICE_DELETED") == 0 && device)
		qemu_cards_deleted(qemu, device);
	else if (strcmp(message->text, "VSERPORT_CHANGE") == 0 && id && strcmp(id, "guest") == 0)
		qemu->guest_open = json_is_true(json_object_get(message->data, "open"));
}

static void on_qmp_line(struct qemu *qemu, const char *line, size_t size)
{
	__attribute__((cleanup(qmp_message_done_autop))) struct qmp_message message = {};

	if (qmp_decode(line, size, &message, NULL) < 0)
		return;
	switch (message.kind) {
	case QMP_GREETING:
		free(qemu->version);
		qemu->version = TAKE_PTR(message.text);
		return;
	case QMP_EVENT:
		on_event(qemu, &message);
		return;
	case QMP_RETURN:
	case QMP_ERROR:
		if (!qemu_cards_answered(qemu, &message))
			qemu_control_answered(qemu, &message);
		return;
	}
}

static void on_qmp(struct qemu *qemu)
{
	struct strbuf *in = &qemu->qmp_in;
	size_t n = take(&qemu->ends.qmp, strbuf_reserve(in, PIECE), PIECE);
	char *end;

	strbuf_grown(in, n);
	while (in->size > 0 && (end = memchr(in->data, '\n', in->size))) {
		on_qmp_line(qemu, in->data, (size_t) (end - in->data));
		strbuf_consume(in, (size_t) (end - in->data) + 1);
	}
	/* No QEMU says that: it is somebody else's by now, and gets no second chance. */
	if (in->size > QMP_LINE_MAX)
		kill(qemu->pid, SIGKILL);
}

/* The bytes that a descriptor goes with, in one message. */
static bool flush_passed(struct qemu *qemu)
{
	struct qemu_passed *passed = &qemu->passed;

	if (sock_send(qemu->ends.qmp, qemu->qmp_out.data, passed->size, &passed->fd, 1) < 0)
		return false;
	strbuf_consume(&qemu->qmp_out, passed->size);
	fd_close(TAKE_FD(passed->fd));
	return true;
}

static void flush_qmp(struct qemu *qemu)
{
	struct qemu_passed *passed = &qemu->passed;

	while (qemu->ends.qmp >= 0 && qemu->qmp_out.size > 0) {
		size_t size = passed->fd >= 0 ? passed->at : qemu->qmp_out.size;

		if (size == 0) {
			if (!flush_passed(qemu))
				return;
			continue;
		}
		ssize_t n =
			send(qemu->ends.qmp, qemu->qmp_out.data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n <= 0)
			return;
		strbuf_consume(&qemu->qmp_out, (size_t) n);
		passed->at -= passed->fd >= 0 ? (size_t) n : 0;
	}
}

/* -- the loop -----------------------------------------------------------------------------------
 */

enum {
	AT_SIGNAL,
	AT_QMP,
	AT_CONSOLE,
	AT_EARLY,
	AT_STATUS,
	AT_WORDS,
	AT_LISTEN,
	AT_LOG,
	AT_CLIENTS,
	AT_COUNT = AT_CLIENTS + QEMU_CLIENTS_MAX,
};

/* True when QEMU has ended: *ret_wait_status. */
static bool on_signal(struct qemu *qemu, int signal_fd, int *ret_wait_status)
{
	struct signalfd_siginfo signals[8];
	ssize_t n = read(signal_fd, signals, sizeof(signals));
	bool ended = false;
	int wait_status;
	pid_t pid;

	for (ssize_t i = 0; i * (ssize_t) sizeof(signals[0]) < n; i++)
		if (signals[i].ssi_signo != SIGCHLD)
			kill(qemu->pid, SIGTERM); /* QEMU flushes its disks and says so */
	/* As the jail's first process we may have strangers' children, too. */
	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid != qemu->pid)
			continue;
		ended = true;
		*ret_wait_status = wait_status;
	}
	return ended;
}

static void dispatch(struct qemu *qemu, const struct pollfd *fds)
{
	const short in = POLLIN | POLLHUP | POLLERR;

	if (fds[AT_CONSOLE].revents & in)
		on_console(qemu, &qemu->ends.console);
	if (fds[AT_EARLY].revents & in)
		on_early(qemu);
	if (fds[AT_LOG].revents)
		flush_log(qemu);
	if (fds[AT_STATUS].revents & in)
		on_status(qemu);
	if (fds[AT_WORDS].revents & in)
		on_words(qemu);
	if (fds[AT_QMP].revents & in)
		on_qmp(qemu);
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		if (fds[AT_CLIENTS + i].revents && qemu->clients[i].fd >= 0)
			qemu_control_ready(qemu, &qemu->clients[i], fds[AT_CLIENTS + i].revents);
	if (fds[AT_LISTEN].revents)
		qemu_control_accept(qemu);
	flush_qmp(qemu);
}

static void fill(const struct qemu *qemu, int signal_fd, struct pollfd *fds)
{
	const struct qemu_ends *ends = &qemu->ends;

	fds[AT_SIGNAL] = (struct pollfd){ signal_fd, POLLIN, 0 };
	fds[AT_QMP] = (struct pollfd){ ends->qmp, POLLIN, 0 };
	if (qemu->qmp_out.size > 0)
		fds[AT_QMP].events |= POLLOUT;
	fds[AT_CONSOLE] = (struct pollfd){ ends->console, POLLIN, 0 };
	/* What its log does not take, the machine does not get rid of. */
	fds[AT_EARLY] = (struct pollfd){ qemu->log_out.size < QEMU_LOG_BYTES_MAX ? ends->early : -1,
					 POLLIN, 0 };
	fds[AT_LOG] = (struct pollfd){ qemu->log_out.size > 0 ? qemu->log_fd : -1, POLLOUT, 0 };
	fds[AT_STATUS] = (struct pollfd){ ends->status, POLLIN, 0 };
	fds[AT_WORDS] = (struct pollfd){ ends->words, POLLIN, 0 };
	fds[AT_LISTEN] = (struct pollfd){ qemu->listen_fd, POLLIN, 0 };
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++) {
		const struct qemu_client *client = &qemu->clients[i];

		fds[AT_CLIENTS + i] = (struct pollfd){ client->fd, POLLIN, 0 };
		if (client->out.size > 0)
			fds[AT_CLIENTS + i].events |= POLLOUT;
	}
}

/* What QEMU wrote before it ended is still in the sockets; it is bounded by their buffers. */
static void drain(struct qemu *qemu)
{
	for (int i = 0; i < DRAIN_MAX && qemu->ends.console >= 0; i++)
		on_console(qemu, &qemu->ends.console);
	for (int i = 0; i < DRAIN_MAX && qemu->ends.early >= 0; i++)
		on_early(qemu);
	for (int i = 0; i < DRAIN_MAX && qemu->ends.status >= 0; i++)
		on_status(qemu);
	for (int i = 0; i < DRAIN_MAX && qemu->ends.words >= 0; i++)
		on_words(qemu);
	for (int i = 0; i < DRAIN_MAX && qemu->ends.qmp >= 0; i++)
		on_qmp(qemu);
}

static int run(struct qemu *qemu, int signal_fd)
{
	struct pollfd fds[AT_COUNT];
	int wait_status = 0;

	for (;;) {
		fill(qemu, signal_fd, fds);
		if (poll(fds, AT_COUNT, qemu_cards_wait_ms(qemu)) < 0)
			continue;
		qemu_cards_tick(qemu);
		dispatch(qemu, fds);
		if (fds[AT_SIGNAL].revents && on_signal(qemu, signal_fd, &wait_status)) {
			drain(qemu);
			return wait_status;
		}
	}
}

/* -- the end ------------------------------------------------------------------------------------
 */

static void tell_failure(struct qemu *qemu, int wait_status)
{
	AUTO(strbuf_done) struct strbuf text = {};
	size_t size = qemu->words.size, start;

	while (size > 0 && strchr("\r\n ", qemu->words.data[size - 1]))
		size--;
	for (start = size; start > 0 && qemu->words.data[start - 1] != '\n'; start--)
		;
	strbuf_puts(&text, "monitor ");
	if (WIFSIGNALED(wait_status))
		strbuf_printf(&text, "QEMU was ended by signal %d", WTERMSIG(wait_status));
	else
		strbuf_printf(&text, "QEMU ended with exit code %d", WEXITSTATUS(wait_status));
	if (size > start) {
		strbuf_puts(&text, ": ");
		strbuf_put_printable(&text, qemu->words.data + start, size - start);
	}
	write_status(qemu, strbuf_str(&text));
}

/*
 * A panic is told apart by the kernel's own words: without a device of its own it ends in the same
 * reset as a restart (panic=-1).  A guest that lies lies about itself.
 */
static bool console_has_panic(const struct qemu *qemu)
{
	static const char panic[] = "Kernel panic - not syncing";
	AUTO(strbuf_done) struct strbuf text = {};

	ring_copy(qemu->console, &text);
	return text.size > 0 && memmem(text.data, text.size, panic, strlen(panic));
}

static int exit_code(struct qemu *qemu, int wait_status)
{
	bool clean = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;

	if (qemu->cause == QMP_CAUSE_PANIC)
		return EXIT_CRASHED;
	if (clean && qemu->cause == QMP_CAUSE_RESET)
		return console_has_panic(qemu) ? EXIT_CRASHED : EXIT_RESET;
	if (clean && (qemu->cause == QMP_CAUSE_POWEROFF || qemu->cause == QMP_CAUSE_HOST))
		return EXIT_ENDED;
	if (qemu->status_count == 0)
		tell_failure(qemu, wait_status);
	return EXIT_NOT_RUN;
}

static void qemu_done(struct qemu *qemu)
{
	qemu_control_done(qemu);
	fd_close(qemu->dir_fd);
	fd_close(qemu->ends.qmp);
	fd_close(qemu->ends.console);
	fd_close(qemu->ends.early);
	fd_close(qemu->ends.status);
	fd_close(qemu->ends.words);
	fd_close(qemu->log_fd);
	fd_close(qemu->passed.fd);
	strbuf_done(&qemu->log_out);
	ring_free(qemu->console);
	strbuf_done(&qemu->words);
	strbuf_done(&qemu->status_line);
	strbuf_done(&qemu->qmp_in);
	strbuf_done(&qemu->qmp_out);
	free(qemu->version);
}

static void qemu_done_autop(struct qemu *qemu)
{
	qemu_done(qemu);
}

static int prepare(struct qemu *qemu, int *ret_signal_fd, struct error *err)
{
	sigset_t signals;

	qemu->dir_fd = open(qemu->options->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (qemu->dir_fd < 0)
		return error_set(err, -errno, "%s", qemu->options->run_dir);
	if (unlinkat(qemu->dir_fd, "status", 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "remove the old status");
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	*ret_signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*ret_signal_fd < 0)
		return error_set(err, -errno, "signalfd");
	int r = ring_new(qemu->dir_fd, "console", &qemu->console, err);
	if (r == 0 && qemu->options->kernel_fd < 0) {
		/* A log whose reader has gone is an error like any other. */
		signal(SIGPIPE, SIG_IGN);
		qemu->log_fd = r = qemu_output_fd(STDOUT_FILENO, err);
	}
	r = r < 0 ? r : 0;
	if (r == 0)
		r = qemu_control_listen(qemu, err);
	qmp_append_command(&qemu->qmp_out, "qmp_capabilities", NULL, ++qemu->next_qmp_id);
	/* Nobody waits for the answer: a machine without a balloon has nothing to say. */
	qmp_append_command(&qemu->qmp_out, "qom-set",
			   "{\"path\":\"" QEMU_BALLOON "\",\"property\":"
			   "\"guest-stats-polling-interval\",\"value\":" QEMU_STATISTICS_S "}",
			   ++qemu->next_qmp_id);
	return r;
}

int qemu_run(const struct qemu_run_options *options)
{
	__attribute__((cleanup(qemu_done_autop))) struct qemu qemu = {
		.options = options,
		.dir_fd = -1,
		.listen_fd = -1,
		.log_fd = -1,
		.passed.fd = -1,
		.ends = { -1, -1, -1, -1, -1 },
	};
	AUTO(fd_close) int signal_fd = -1;
	struct error err = {};

	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		qemu.clients[i].fd = qemu.clients[i].given_fd = -1;
	qemu_cards_begin(&qemu);
	int r = prepare(&qemu, &signal_fd, &err);
	if (r == 0)
		r = qemu_start(&qemu, &err);
	if (r < 0) {
		AUTO(free) char *text = mem_printf("monitor %s", err.msg);
		if (qemu.dir_fd >= 0)
			write_status(&qemu, text);
		fprintf(stderr, "brume-qemu: %s\n", err.msg);
		return EXIT_NOT_RUN;
	}
	return exit_code(&qemu, run(&qemu, signal_fd));
}
