#pragma once
/*
 * vmm/vm_control.h - a machine's control socket: calls in, returns out
 * (docs/design/0007-virtual-machines.md).
 *
 * Up to 32 connections; what breaks the format ends the connection, and so does the machine's end.
 * A call that needs a descriptor takes the oldest that has come with the bytes so far (SCM_RIGHTS,
 * with any byte of the call), whatever becomes of the call; one that no call has taken when its
 * bytes have been read breaks the format.
 * Used by brume-vmm.  Thread: the main loop's.
 */
#include <jansson.h>

#include "base/cleanup.h"
#include "vmm/vm.h"

struct vm_control;
struct error;
struct loop;

/* Listens on `path`, or on the socket `fd` (borrowed) when that is not negative. */
int vm_control_new(const char *path, int fd, struct loop *loop, struct vm *vm,
		   struct vm_control **ret, struct error *err);
void vm_control_free(struct vm_control *control);
DEFINE_AUTO(struct vm_control *, vm_control_free)

/*
 * What a call answers: a new reference to {"result": ..} or {"error": ..}.  `later` is where the
 * answer goes that cannot be given at once; NULL is returned then.
 */
struct vm_control_caller {
	int *fd; /* the descriptor that came with it, -1: none; taken over by setting it to -1 */
	vm_removed_fn later;
	void *data;
};
json_t *vm_control_answer(struct vm *vm, const json_t *call, struct vm_control_caller *caller);
/* A descriptor belongs to this call. */
bool vm_control_takes_fd(const json_t *call);
