#pragma once
/*
 * base/log.h - one line per event on stderr, for the journal and for people.
 *
 *	log_info("instance %s: exited with %d, restarting in %u ms", uid, code, delay_ms);
 *
 * A line says what happened, to which id, and what we do now.  Each source file belongs to the
 * module that its path names ("net/port"); levels are set per folder at run time.
 * On a pipe or file each line starts with "<N>", the syslog priority that journald understands;
 * on a terminal with the time and the level.  Thread-safe: a line is one write().
 */

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* "info", or "info,net=debug,agent=warning".  Returns 0 or -EINVAL, then nothing is changed. */
int log_set_levels(const char *spec);

/*
 * The name that starts every line; borrowed for ever.  Looks what stderr is and what time zone we
 * are in: call it when stderr is in its place and before a program gives up files and system calls.
 * From then on a line takes nothing but a write().
 */
void log_set_program(const char *name);

void log_write(enum log_level level, const char *file, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __FILE__, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __FILE__, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __FILE__, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __FILE__, __VA_ARGS__)
