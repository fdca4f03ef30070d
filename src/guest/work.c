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
#include "codec/users.h"
#include "kern/proc.h"
#include "kern/statfs.h"

enum { OUT_FD = 1, LINK_MAX = 4096, PROCESSES_MAX = 1024, USER_SIZE = 64, PROC_MAX = 64 << 10 };

static int answer(json_t *document, const char *end, struct error *err)
{
	AUTO(free) char *text = json_text(document);
	AUTO(free) char *whole = mem_printf("%s%s", text, end);
	int r = file_write_all(OUT_FD, whole, strlen(whole));

	return r < 0 ? error_set(err, r, "write to the stream") : 0;
}

/* Text for people: what is not UTF-8 becomes '?'. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	if (value)
		return value;
	AUTO(free) char *copy = mem_strdup(text);
	for (char *p = copy; *p; p++)
		if ((unsigned char) *p >= 0x80)
			*p = '?';
	return json_string(copy);
}

/* -- files --------------------------------------------------------------------------------------
 */

/* The last component; "." for the root. */
static char *name_of(const char *path)
{
	size_t size = strlen(path), start;

	for (;;) {
		while (size > 0 && path[size - 1] == '/')
			size--;
		if (size < 2 || path[size - 1] != '.' || path[size - 2] != '/')
			break;
		size--;
	}
	for (start = size; start > 0 && path[start - 1] != '/'; start--)
		;
	if (size == start || (size - start == 2 && memcmp(path + start, "..", 2) == 0))
		return mem_strdup(".");
	return mem_strndup(path + start, size - start);
}

static const char *type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "folder";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

/* The line that says what the path is: as image/files.h has it for containers. */
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
	AUTO(json_decref)
	json_t *line = json_pack("{s:o, s:s, s:i, s:I, s:I, s:I}", "name", text_json(name), "type",
				 type_of(st.st_mode), "mode", (int) (st.st_mode & 07777), "uid",
				 (json_int_t) st.st_uid, "gid", (json_int_t) st.st_gid,
				 "size_bytes", (json_int_t) st.st_size);
	json_put_time(line, "mtime",
		      (int64_t) st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
	n = S_ISLNK(st.st_mode) ? readlinkat(fd, "", target, LINK_MAX) : 0;
	if (n > 0) {
		target[n] = '\0';
		json_object_set_new(line, "link_target", text_json(target));
	}
	return answer(line, "\n", err);
}

int work_files(void *data, struct error *err)
{
	const struct work_files *files = data;
	AUTO(free) char *name = name_of(files->path);
	int r;

	if (files->action == WORK_PUT)
		return work_put(files, err);
	r = describe(files, name, err);
	return r < 0 || files->action == WORK_STAT ? r : work_get(files, name, err);
}

/* -- processes ----------------------------------------------------------------------------------
 */

static char *command_of(const struct proc *proc)
{
	AUTO(strbuf_done) struct strbuf out = {};

	if (proc->command_size == 0) {
		strbuf_puts(&out, "[");
		strbuf_put_printable(&out, proc->name, strlen(proc->name));
		strbuf_puts(&out, "]");
		return strbuf_take(&out);
	}
	for (size_t i = 0; i < proc->command_size;) {
		size_t size = strnlen(proc->command + i, proc->command_size - i);

		strbuf_puts(&out, i > 0 ? " " : "");
		strbuf_put_printable(&out, proc->command + i, size);
		i += size + 1;
	}
	if (proc->command_size == sizeof(proc->command))
		strbuf_puts(&out, "…");
	return strbuf_take(&out);
}

static json_t *process_json(const struct proc *proc, const char *passwd)
{
	AUTO(free) char *command = command_of(proc);
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
	return answer(document, "", err);
}

/* -- statistics ---------------------------------------------------------------------------------
 */

/* A line "Name:  123 kB" of /proc/meminfo in bytes; 0: there is none. */
static json_int_t meminfo(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? (json_int_t) strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

int work_stats(void *data, struct error *err)
{
	unsigned long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0;
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
	(void) sscanf(cpu, "cpu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait);
	(void) !getloadavg(load, 3);
	sysinfo(&info);
	statvfs("/", &disk);
	document = json_pack(
		"{s:{s:I, s:I, s:I, s:I}, s:[f, f, f], s:i, s:I, s:{s:I, s:I, s:I}, s:{s:I, s:I}}",
		"memory", "total_bytes", meminfo(memory, "MemTotal:"), "available_bytes",
		meminfo(memory, "MemAvailable:"), "free_bytes", meminfo(memory, "MemFree:"),
		"cached_bytes", meminfo(memory, "\nCached:"), "load", load[0], load[1], load[2],
		"processes", (int) info.procs, "uptime_ms", (json_int_t) info.uptime * 1000, "cpu",
		"user_ms", (json_int_t) ((user + nice) * 1000 / (unsigned long long) hz),
		"system_ms", (json_int_t) (system * 1000 / (unsigned long long) hz), "idle_ms",
		(json_int_t) ((idle + iowait) * 1000 / (unsigned long long) hz), "disk",
		"size_bytes", (json_int_t) (disk.f_blocks * disk.f_frsize), "used_bytes",
		(json_int_t) ((disk.f_blocks - disk.f_bfree) * disk.f_frsize));
	return answer(document, "", err);
}
