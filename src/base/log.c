#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { MODULES_MAX = 16, LINE_MAX_BYTES = 1024 };

struct module_level {
	char folder[16];
	enum log_level level;
};

struct levels {
	enum log_level fallback;
	unsigned int count;
	struct module_level modules[MODULES_MAX];
};

static const char *program = "brume";
static bool terminal;
static struct levels current = { .fallback = LOG_LEVEL_INFO };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int level_parse(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} names[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (strcmp(name, names[i].name) == 0) {
			*ret = names[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

int log_set_levels(const char *spec)
{
	struct levels next = { .fallback = LOG_LEVEL_INFO };
	char copy[256];
	char *save = NULL;

	if (strlen(spec) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, spec);

	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(item, '=');

		if (!equals) {
			if (level_parse(item, &next.fallback) < 0)
				return -EINVAL;
			continue;
		}
		*equals = '\0';
		struct module_level *m = &next.modules[next.count];
		if (next.count == MODULES_MAX || strlen(item) >= sizeof(m->folder) ||
		    level_parse(equals + 1, &m->level) < 0)
			return -EINVAL;
		strcpy(m->folder, item);
		next.count++;
	}
	pthread_mutex_lock(&lock);
	current = next;
	pthread_mutex_unlock(&lock);
	return 0;
}

void log_set_program(const char *name)
{
	program = name;
	terminal = isatty(STDERR_FILENO);
	if (terminal)
		tzset();
}

/* __FILE__ may be "../src/net/port.c"; the module is what follows the last "src/". */
static const char *module_of(const char *file)
{
	const char *found = strstr(file, "src/");

	return found ? found + 4 : file;
}

static enum log_level level_of(const char *module)
{
	const char *slash = strchr(module, '/');
	size_t len = slash ? (size_t) (slash - module) : strlen(module);
	enum log_level level;

	pthread_mutex_lock(&lock);
	level = current.fallback;
	for (unsigned int i = 0; i < current.count; i++)
		if (strlen(current.modules[i].folder) == len &&
		    strncmp(current.modules[i].folder, module, len) == 0)
			level = current.modules[i].level;
	pthread_mutex_unlock(&lock);
	return level;
}

static int prefix_format(char *line, size_t size, enum log_level level)
{
	static const char *const names[] = { [LOG_LEVEL_ERROR] = "error",
					     [LOG_LEVEL_WARNING] = "warning",
					     [LOG_LEVEL_INFO] = "info",
					     [LOG_LEVEL_DEBUG] = "debug" };
	struct timespec now;
	struct tm tm;

	if (!terminal)
		return snprintf(line, size, "<%d>%s: ", level, program);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	return snprintf(line, size, "%02d:%02d:%02d.%03ld %s %s: ", tm.tm_hour, tm.tm_min,
			tm.tm_sec, now.tv_nsec / 1000000, program, names[level]);
}

void log_write(enum log_level level, const char *file, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	int saved_errno = errno;
	va_list ap;

	if (level > level_of(module_of(file)))
		return;

	size_t used = (size_t) prefix_format(line, sizeof(line), level);
	va_start(ap, fmt);
	int n = vsnprintf(line + used, sizeof(line) - used, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	used += (size_t) n;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	/* One event is one line, whatever a stranger put into a name. */
	for (size_t i = 0; i < used; i++)
		if ((unsigned char) line[i] < 0x20)
			line[i] = ' ';
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0) {
		/* Nowhere left to say it. */
	}
	errno = saved_errno;
}
