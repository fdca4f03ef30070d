#include "vmm/serial.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/layout.h"

/* Registers, by offset; 0 and 1 are the divisor while LCR_DLAB is set. */
enum { DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR, REGISTERS };

enum {
	IER_RECEIVED = 1,
	IER_TRANSMITTED = 2,
	IER_MASK = 0xf,
	IIR_NONE = 1,
	IIR_TRANSMITTED = 2,
	IIR_RECEIVED = 4,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 1,
	FCR_CLEAR_RECEIVED = 2,
	LCR_DLAB = 0x80,
	MCR_LOOP = 0x10,
	LSR_DATA = 1,
	LSR_EMPTY = 0x60,
	MSR_READY = 0xb0, /* carrier, data set ready, clear to send */
};

/* What a guest knows of it: plain, so that a snapshot can write it. */
struct serial_state {
	uint8_t ier, fcr, lcr, mcr, scr, divisor[2];
	bool transmitted; /* an interrupt that was not asked for yet */
	uint8_t fifo[SERIAL_FIFO], fifo_count;
};

struct serial {
	pthread_mutex_t lock;
	struct serial_state state;
	struct irq *irq;
	struct bus *io;
	serial_output_fn output;
	serial_drained_fn drained;
	void *data;
};

static uint8_t pending(const struct serial_state *state)
{
	if (state->ier & IER_RECEIVED && state->fifo_count > 0)
		return IIR_RECEIVED;
	if (state->ier & IER_TRANSMITTED && state->transmitted)
		return IIR_TRANSMITTED;
	return IIR_NONE;
}

/* The line is edge-triggered: a new reason is a new edge. */
static void update(struct serial *serial)
{
	if (pending(&serial->state) != IIR_NONE)
		irq_raise(serial->irq);
}

static uint8_t take(struct serial *serial)
{
	struct serial_state *state = &serial->state;
	uint8_t byte = state->fifo[0];

	if (state->fifo_count == 0)
		return 0;
	state->fifo_count--;
	memmove(state->fifo, state->fifo + 1, state->fifo_count);
	return byte;
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
	struct serial_state *state = &serial->state;
	uint8_t value;

	switch (offset) {
	case DATA:
		return state->lcr & LCR_DLAB ? state->divisor[0] : take(serial);
	case IER:
		return state->lcr & LCR_DLAB ? state->divisor[1] : state->ier;
	case IIR_FCR:
		value = pending(state);
		if (value == IIR_TRANSMITTED)
			state->transmitted = false;
		return value | (state->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
	case LCR:
		return state->lcr;
	case MCR:
		return state->mcr;
	case LSR:
		return LSR_EMPTY | (state->fifo_count > 0 ? LSR_DATA : 0);
	case MSR:
		/* In a loop the outputs are the inputs: how drivers find the port. */
		if (state->mcr & MCR_LOOP)
			return (uint8_t) ((state->mcr & 1) << 5 | (state->mcr & 2) << 3 |
					  (state->mcr & 0xc) << 4);
		return MSR_READY;
	default:
		return state->scr;
	}
}

static void write_data(struct serial *serial, uint8_t byte)
{
	struct serial_state *state = &serial->state;

	if (state->mcr & MCR_LOOP) {
		if (state->fifo_count < SERIAL_FIFO)
			state->fifo[state->fifo_count++] = byte;
	} else {
		serial->output(serial->data, &byte, 1);
	}
	state->transmitted = true;
	update(serial);
}

static void write_register(struct serial *serial, uint64_t offset, uint8_t value)
{
	struct serial_state *state = &serial->state;

	switch (offset) {
	case DATA:
		if (state->lcr & LCR_DLAB)
			state->divisor[0] = value;
		else
			write_data(serial, value);
		break;
	case IER:
		if (state->lcr & LCR_DLAB) {
			state->divisor[1] = value;
			break;
		}
		if (value & ~state->ier & IER_TRANSMITTED)
			state->transmitted = true;
		state->ier = value & IER_MASK;
		update(serial);
		break;
	case IIR_FCR:
		state->fcr = value;
		if (value & FCR_CLEAR_RECEIVED)
			state->fifo_count = 0;
		break;
	case LCR:
		state->lcr = value;
		break;
	case MCR:
		state->mcr = value;
		break;
	case SCR:
		state->scr = value;
		break;
	}
}

static uint64_t serial_read(void *data, uint64_t offset, unsigned int size)
{
	struct serial *serial = data;
	bool drained;
	uint8_t value;

	(void) size;
	pthread_mutex_lock(&serial->lock);
	drained = serial->state.fifo_count == 1;
	value = read_register(serial, offset);
	drained = drained && serial->state.fifo_count == 0;
	pthread_mutex_unlock(&serial->lock);
	if (drained && serial->drained)
		serial->drained(serial->data);
	return value;
}

static void serial_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct serial *serial = data;

	(void) size;
	pthread_mutex_lock(&serial->lock);
	write_register(serial, offset, (uint8_t) value);
	pthread_mutex_unlock(&serial->lock);
}

static const struct bus_ops serial_ops = { serial_read, serial_write };

int serial_new(struct bus *io, struct irq_chip *irq_chip, serial_output_fn output,
	       serial_drained_fn drained, void *data, struct serial **ret, struct error *err)
{
	AUTO(serial_free) struct serial *serial = mem_new0(struct serial);
	int r;

	pthread_mutex_init(&serial->lock, NULL);
	serial->output = output;
	serial->drained = drained;
	serial->data = data;
	r = irq_chip->ops->line(irq_chip->data, LAYOUT_GSI_SERIAL, false, &serial->irq, err);
	if (r == 0)
		r = bus_add(io, "serial", LAYOUT_PORT_SERIAL, REGISTERS, &serial_ops, serial, err);
	if (r < 0)
		return r;
	serial->io = io;
	*ret = TAKE_PTR(serial);
	return 0;
}

void serial_free(struct serial *serial)
{
	if (!serial)
		return;
	if (serial->io)
		bus_remove(serial->io, LAYOUT_PORT_SERIAL);
	irq_free(serial->irq);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

size_t serial_input(struct serial *serial, const void *text, size_t size)
{
	struct serial_state *state = &serial->state;
	size_t room;

	pthread_mutex_lock(&serial->lock);
	room = SERIAL_FIFO - state->fifo_count;
	if (size > room)
		size = room;
	memcpy(state->fifo + state->fifo_count, text, size);
	state->fifo_count = (uint8_t) (state->fifo_count + size);
	if (size > 0)
		update(serial);
	pthread_mutex_unlock(&serial->lock);
	return size;
}

void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	memset(&serial->state, 0, sizeof(serial->state));
	pthread_mutex_unlock(&serial->lock);
}
