#pragma once
/*
 * cli/terminal.h - the terminal that brume runs in: its size, and raw mode that always ends.
 *
 * Used by exec and by everything that prints.  terminal_raw() keeps the old settings in one place
 * of the process and restores them at exit(), whatever way it goes; signals that would kill are
 * turned into a return by the caller, so that they come this way too.
 */
#include <stdbool.h>
#include <stddef.h>

struct error;

/* Columns; 80 when `fd` is no terminal. */
size_t terminal_width(int fd);

/* 80 x 24 when `fd` is no terminal. */
void terminal_size(int fd, unsigned int *ret_width, unsigned int *ret_height);

/* Every key goes to the program inside, Ctrl-C too. */
int terminal_raw(int fd, struct error *err);
void terminal_restore(void);

/* Writes everything, waiting where a descriptor does not block.  0 or -errno. */
int terminal_write(int fd, const void *data, size_t size);
