#include "guest/work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/file_stat.h"
#include "codec/users.h"
#include "guest/netconf.h"
#include "kern/proc.h"
#include "kern/statfs.h"

enum { OUT_FD = 1, LINK_MAX = 4096, PROCESSES_MAX = 1024, USER_SIZE = 64, PROC_MAX = 64 << 10 };

static int answer(const char *text, struct error *err)
{
	int r = file_write_all(OUT_FD, text, strlen(text));

	return r < 0 ? error_set(err, r, "write to the stream") : 0;
}

static int answer_json(const json_t *document, struct error *err)
{
	AUTO(free) char *text = json_text(document);

	return answer(text, err);
}

/* -- files --------------------------------------------------------------------------------------
 */

/* Writes the line that says what the path is. */
static int describe(const struct work_files *files, const char *name, struct error *err)
{
	AUTO(fd_close)
	int fd = open(files->path, O_PATH | O_CLOEXEC | (files->follow ? 0 : O_NOFOLLOW));
	char target[LINK_MAX + 1];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "%.300s", files->path);
	if (statfs_made_up(fd) && !S_ISDIR(st.st_mode))
		return error_say(err, -EINVAL,
				 "%.300s is made by the kernel (%s): read it with exec and cat",
				 files->path, statfs_made_up(fd));
	n = S_ISLNK(st.st_mode) ? readlinkat(fd, "", target, LINK_MAX) : 0;
	target[n > 0 ? n : 0] = '\0';
	AUTO(free) char *line = file_stat_line(name, &st, n > 0 ? target : NULL);
	return answer(line, err);
}

int work_files(void *data, struct error *err)
{
	const struct work_files *files = data;
	AUTO(free) char *name = file_stat_name(files->path);
	int r;

	if (files->action == WORK_PUT)
		return work_put(files, err);
	r = describe(files, name, err);
	return r < 0 || files->action == WORK_STAT ? r : work_get(files, name, err);
}

/* -- processes ----------------------------------------------------------------------------------
 */

static json_t *process_json(const struct proc *proc, const char *passwd)
{
	AUTO(free) char *command = proc_command(proc);
	AUTO(strbuf_done) struct strbuf user = {};
	char name[USER_SIZE], state[2] = { proc->state, '\0' };

	if (users_name(passwd, proc->uid, name, sizeof(name)) == 0)
		strbuf_put_printable(&user, name, strlen(name));
	else
		strbuf_printf(&user, "%u", proc->uid);
	return json_pack("{s:i, s:i, s:s, s:I, s:I, s:s, s:s}", "pid", (int) proc->pid, "host_pid",
			 (int) proc->pid, "user", strbuf_str(&user), "cpu_ms",
			 (json_int_t) proc->cpu_ms, "rss_bytes", (json_int_t) proc->rss_bytes,
			 "state", proc->state >= ' ' ? state : "?", "command", command);
}

int work_top(void *data, struct error *err)
{
	AUTO(fd_close) int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(json_decref) json_t *processes = json_array();
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *passwd = NULL;
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	json_int_t count = 0;
	struct proc proc;

	(void) data;
	(void) file_read(AT_FDCWD, "/etc/passwd", USERS_FILE_MAX, &passwd, NULL);
	while (dir && (entry = readdir(dir))) {
		pid_t pid = (pid_t) strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid() || proc_read(proc_fd, pid, &proc) < 0)
			continue;
		if (count++ < PROCESSES_MAX)
			json_array_append_new(processes, process_json(&proc, passwd));
	}
	if (!dir)
		return error_set(err, -errno, "open /proc");
	closedir(dir);
	document = json_pack("{s:O, s:I}", "processes", processes, "count", count);
	return answer_json(document, err);
}

/* -- interfaces ---------------------------------------------------------------------------------
 */

int work_network(void *data, struct error *err)
{
	return netconf_change(data, err);
}

/* -- statistics ---------------------------------------------------------------------------------
 */

/* A line "Name:  123 kB" of /proc/meminfo in bytes; 0: there is none. */
static json_int_t meminfo(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? (json_int_t) strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

enum { CPU_USER, CPU_NICE, CPU_SYSTEM, CPU_IDLE, CPU_IOWAIT, CPU_FIELDS };

/* The first line of /proc/stat, "cpu  USER NICE ...". */
static void read_cpu(const char *text, uint64_t ret[CPU_FIELDS])
{
	const char *at = strncmp(text, "cpu ", 4) == 0 ? text + 4 : "";

	for (size_t i = 0; i < CPU_FIELDS; i++) {
		char *end;

		ret[i] = strtoull(at, &end, 10);
		at = end;
	}
}

int work_stats(void *data, struct error *err)
{
	uint64_t cpu_ticks[CPU_FIELDS] = {};
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *memory = NULL;
	AUTO(free) char *cpu = NULL;
	struct statvfs disk = {};
	struct sysinfo info = {};
	double load[3] = {};
	long hz = sysconf(_SC_CLK_TCK);
	int r = file_read(AT_FDCWD, "/proc/meminfo", PROC_MAX, &memory, NULL);

	(void) data;
	if (r == 0)
		r = file_read(AT_FDCWD, "/proc/stat", PROC_MAX * 16, &cpu, NULL);
	if (r < 0)
		return error_set(err, r, "read /proc");
	read_cpu(cpu, cpu_ticks);
	(void) !getloadavg(load, 3);
	sysinfo(&info);
	statvfs("/", &disk);
	document = json_pack(
		"{s:{s:I, s:I, s:I, s:I}, s:[f, f, f], s:i, s:I, s:{s:I, s:I, s:I}, s:{s:I, s:I}}",
		"memory", "total_bytes", meminfo(memory, "MemTotal:"), "available_bytes",
		meminfo(memory, "MemAvailable:"), "free_bytes", meminfo(memory, "MemFree:"),
		"cached_bytes", meminfo(memory, "\nCached:"), "load", load[0], load[1], load[2],
		"processes", (int) info.procs, "uptime_ms", (json_int_t) info.uptime * 1000, "cpu",
		"user_ms",
		(json_int_t) ((cpu_ticks[CPU_USER] + cpu_ticks[CPU_NICE]) * 1000 / (uint64_t) hz),
		"system_ms", (json_int_t) (cpu_ticks[CPU_SYSTEM] * 1000 / (uint64_t) hz), "idle_ms",
		(json_int_t) ((cpu_ticks[CPU_IDLE] + cpu_ticks[CPU_IOWAIT]) * 1000 / (uint64_t) hz),
		"disk", "size_bytes", (json_int_t) (disk.f_blocks * disk.f_frsize), "used_bytes",
		(json_int_t) ((disk.f_blocks - disk.f_bfree) * disk.f_frsize));
	return answer_json(document, err);
}
