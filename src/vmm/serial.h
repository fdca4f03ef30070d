#pragma once
/*
 * vmm/serial.h - a 16550A serial port at the place of a PC's first one: early kernel messages,
 * rescue consoles.
 *
 * Each character costs the guest an exit; for anything but the first and the last words there is
 * virtio-console.  Used by vm.c.  Output comes in the vCPU's thread, with the port locked;
 * serial_input() is for any thread.
 */
#include <stddef.h>

#include "base/cleanup.h"

struct bus;
struct error;
struct irq_chip;
struct serial;

typedef void (*serial_output_fn)(void *data, const void *text, size_t size);
/* The guest has read everything: there is room for SERIAL_FIFO bytes.  May be NULL. */
typedef void (*serial_drained_fn)(void *data);

enum { SERIAL_FIFO = 16 };

int serial_new(struct bus *io, struct irq_chip *irq_chip, serial_output_fn output,
	       serial_drained_fn drained, void *data, struct serial **ret, struct error *err);
void serial_free(struct serial *serial);
DEFINE_AUTO(struct serial *, serial_free)

/* Takes as much as there is room for; returns how much. */
size_t serial_input(struct serial *serial, const void *text, size_t size);
/* As after switching on. */
void serial_reset(struct serial *serial);
