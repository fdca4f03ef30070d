#pragma once
/*
 * vmm/vm_control.h - a machine's control socket: calls in, returns out
 * (docs/design/0007-virtual-machines.md).
 *
 * Up to 32 connections; what breaks the format ends the connection, and so does the machine's end.
 * Used by brume-vmm.  Thread: the main loop's.
 */
#include <jansson.h>

#include "base/cleanup.h"

struct vm_control;
struct error;
struct loop;
struct vm;

/* Listens on `path`, or on the socket `fd` (borrowed) when that is not negative. */
int vm_control_new(const char *path, int fd, struct loop *loop, struct vm *vm,
		   struct vm_control **ret, struct error *err);
void vm_control_free(struct vm_control *control);
DEFINE_AUTO(struct vm_control *, vm_control_free)

/* What a call answers: a new reference to {"result": ..} or {"error": ..}. */
json_t *vm_control_answer(struct vm *vm, const json_t *call);
