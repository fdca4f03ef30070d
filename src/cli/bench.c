#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"

enum { OUTPUT_MAX = 4096, SELF_BYTES_MAX = 4096 };

/* Where the measuring program stands in the instance for as long as it takes to start it. */
#define PLACE "/.brume-measure"

static const struct {
	const char *member, *what;
} bench_rows[] = {
	{ "cpu_ns", "arithmetic, 1000 steps" },
	{ "system_call_ns", "system call" },
	{ "page_fault_ns", "page fault" },
	{ "context_switch_ns", "context switch" },
	{ "memory_copy_ns", "copying 1 MiB of memory" },
	{ "timer_interrupt_ns", "timer, lateness" },
	{ "port_io_ns", "I/O port, a write" },
	{ "mmio_ns", "memory-mapped I/O, a read" },
};

/* Runs a program to its end and keeps what it says; its errors go where ours go. */
static int bench_output(char *const *argv, char **ret, struct error *err)
{
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	close(fds[1]);
	AUTO(fd_close) int out = fds[0];
	if (pid < 0)
		return error_set(err, -EAGAIN, "fork");
	int r = file_read_fd(out, OUTPUT_MAX, ret, NULL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return error_set(err, r, "what %s says", argv[0]);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_say(err, -EIO, "%s has failed",
				 strv_count(argv) > 1 ? argv[1] : argv[0]);
	return 0;
}

/* Another verb of this program, for the same server and project: copies and exec as people do. */
static int bench_self(const struct cli *cli, const char *self, const char *const *words, char **ret,
		      struct error *err)
{
	const char *const common[][2] = { { "--project", cli->options.project },
					  { "--socket", cli->options.socket },
					  { "--host", cli->options.host } };
	AUTO(strv_free) char **argv = NULL;

	strv_append(&argv, self);
	strv_append(&argv, *words++);
	for (size_t i = 0; i < ARRAY_COUNT(common); i++) {
		if (!common[i][1])
			continue;
		strv_append(&argv, common[i][0]);
		strv_append(&argv, common[i][1]);
	}
	for (; *words; words++)
		strv_append(&argv, *words);
	return bench_output(argv, ret, err);
}

static int bench_parse(const char *text, const char *where, json_t **ret, struct error *err)
{
	struct error inner = {};
	int r = json_parse(text, strlen(text), OUTPUT_MAX, ret, &inner);

	if (r == 0 && !json_is_object(*ret))
		r = -EPROTO;
	return r < 0 ? error_say(err, -EPROTO, "the measurements of %s are not understood", where)
		     : 0;
}

#if defined(__aarch64__)
#define OWN_ARCHITECTURE "arm64"
#else
#define OWN_ARCHITECTURE "amd64"
#endif

/* The program for the instance's processor: that of an emulated machine is another one. */
static int bench_program(struct cli *cli, const char *name, const char *own, char **ret,
			 struct error *err)
{
	AUTO(json_decref) json_t *instance = NULL;
	AUTO(free) char *path = NULL;
	const char *architecture;
	int r = listing_get(cli, "instances", name, &instance, err);

	if (r < 0)
		return r;
	architecture = resource_text(instance, "status.machine.architecture");
	if (!architecture || strcmp(architecture, OWN_ARCHITECTURE) == 0)
		path = mem_strdup(own);
	else if (!strchr(architecture, '/'))
		path = mem_printf("%s-%s", own, architecture);
	if (!path || access(path, R_OK) < 0)
		return error_say(err, -ENOENT, "%s is a machine of %s, and there is no %s-%s", name,
				 architecture ? architecture : OWN_ARCHITECTURE, own,
				 architecture ? architecture : OWN_ARCHITECTURE);
	*ret = TAKE_PTR(path);
	return 0;
}

static int bench_measure(struct cli *cli, const char *name, json_t **ret_host,
			 json_t **ret_instance, struct error *err)
{
	AUTO(free) char *self = mem_zalloc(SELF_BYTES_MAX);
	AUTO(free) char *output = NULL;
	AUTO(free) char *none = NULL;
	AUTO(free) char *inside = NULL;
	AUTO(free) char *target = mem_printf("%s:" PLACE, name);

	if (readlink("/proc/self/exe", self, SELF_BYTES_MAX - 1) < 0)
		return error_set(err, -errno, "where brume lies");
	AUTO(free) char *folder = mem_strdup(self);
	*strrchr(folder, '/') = '\0';
	AUTO(free) char *program = mem_printf("%s/brume-measure", folder);
	if (access(program, X_OK) < 0)
		return error_set(err, -errno, "%s", program);
	AUTO(free) char *theirs = NULL;
	int r = bench_program(cli, name, program, &theirs, err);
	if (r == 0)
		r = bench_self(cli, self, (const char *const[]){ "cp", "-q", theirs, target, NULL },
			       &none, err);
	if (r == 0)
		r = bench_self(cli, self,
			       (const char *const[]){ "exec", "--user", "0", name, "--", PLACE,
						      "--remove", NULL },
			       &inside, err);
	if (r == 0)
		r = bench_output((char *const[]){ program, NULL }, &output, err);
	if (r == 0)
		r = bench_parse(output, "this host", ret_host, err);
	return r == 0 ? bench_parse(inside, name, ret_instance, err) : r;
}

/* A measured time; 0: it was not possible, or is no time. */
static double bench_value(const json_t *measured, const char *member)
{
	double value = json_number_value(json_object_get(measured, member));

	return isfinite(value) && value > 0 ? value : 0;
}

static char *bench_time(double ns)
{
	if (ns <= 0)
		return NULL;
	return ns < 10000 ? mem_printf("%.0f ns", ns) : mem_printf("%.1f us", ns / 1000);
}

static void bench_print(struct cli *cli, const json_t *host, const json_t *instance)
{
	static const struct column columns[] = { { .title = "WHAT" },
						 { .title = "HOST", .right = true },
						 { .title = "INSTANCE", .right = true },
						 { .title = "RATIO", .right = true },
						 {} };
	AUTO(table_free) struct table *table = table_new(columns);
	AUTO(json_decref) json_t *rows = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(bench_rows); i++) {
		double here = bench_value(host, bench_rows[i].member);
		double there = bench_value(instance, bench_rows[i].member);
		AUTO(free) char *here_text = bench_time(here);
		AUTO(free) char *there_text = bench_time(there);
		AUTO(free)
		char *ratio = here > 0 && there > 0 ? mem_printf("%.2f", there / here) : NULL;
		json_t *row = json_pack("{s:s}", "what", bench_rows[i].what);

		table_cell(table, bench_rows[i].what);
		table_cell(table, here_text);
		table_cell(table, there_text);
		table_cell(table, ratio);
		if (here > 0)
			json_object_set_new(row, "host_ns", json_real(here));
		if (there > 0)
			json_object_set_new(row, "instance_ns", json_real(there));
		if (ratio)
			json_object_set_new(row, "ratio", json_real(there / here));
		json_array_append_new(rows, row);
	}
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, rows);
	else
		table_print(table, cli->out, &cli->style);
}

static int bench_virt_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
			  struct error *err)
{
	AUTO(json_decref) json_t *host = NULL, *instance = NULL;
	int r = bench_measure(cli, arguments->words[0], &host, &instance, err);

	(void) userdata;
	if (r < 0)
		return r;
	bench_print(cli, host, instance);
	return 0;
}

const struct verb verb_bench_virt = {
	.name = "virt",
	.synopsis = "NAME",
	.summary = "Compare a running instance with this host: system calls, faults, exits",
	.help = "Copies a small program into the instance, runs it there as user 0 and here, and\n"
		"prints what each thing costs and the ratio.  Port and memory-mapped I/O, which "
		"leave\n"
		"a virtual machine's guest, need the capability SYS_RAWIO inside.\n\n"
		"Examples:\n  brume bench virt web\n"
		"  brume bench virt web -f json | jq '.[] | {what, ratio}'\n",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = bench_virt_run,
};
