/*
 * The calls of the control socket: what each is asked with and what it answers.
 */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/vm_control.h"

enum { REMOVE_TIMEOUT_MS = 10000, REMOVE_TIMEOUT_MAX_MS = 600000 };

typedef int (*action_fn)(struct vm *vm, struct error *err);

static int quit(struct vm *vm, struct error *err)
{
	(void) err;
	vm_quit(vm);
	return 0;
}

static json_t *error_answer(const char *words)
{
	return json_pack("{s:s}", "error", words);
}

static json_t *do_action(struct vm *vm, const char *method)
{
	static const struct {
		const char *name;
		action_fn fn;
	} actions[] = {
		{ "pause", vm_pause }, { "resume", vm_resume }, { "power_button", vm_power_button },
		{ "reset", vm_reset }, { "quit", quit },
	};
	struct error err = {};

	for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
		if (strcmp(actions[i].name, method) != 0)
			continue;
		if (actions[i].fn(vm, &err) < 0)
			return error_answer(err.msg);
		return json_pack("{s:{}}", "result");
	}
	return error_answer("unknown method; there are add_disk, add_nic, balloon, info, "
			    "metrics, pause, power_button, quit, remove, reset and resume");
}

static json_t *do_balloon(struct vm *vm, const json_t *arguments)
{
	uint64_t target_bytes = UINT64_MAX;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "arguments" };
	json_t *result = NULL;

	json_read_uint64(&in, arguments, "target_bytes", &target_bytes);
	if (json_reader_finish(&in, arguments) < 0)
		return error_answer(err.msg);
	if (vm_balloon(vm, target_bytes == UINT64_MAX ? NULL : &target_bytes, &result, &err) < 0)
		return error_answer(err.msg);
	return json_pack("{s:o}", "result", result);
}

/* ---- what comes and goes ---- */

static json_t *added(int r, json_t *result, const struct error *err, int *fd)
{
	if (r < 0)
		return error_answer(err->msg);
	*fd = -1; /* the device has it */
	return json_pack("{s:o}", "result", result);
}

static json_t *no_fd(void)
{
	return error_answer("a descriptor must come with this call (SCM_RIGHTS)");
}

static json_t *do_add_disk(struct vm *vm, const json_t *arguments, int *fd)
{
	AUTO(free) char *id = NULL;
	AUTO(free) char *serial = NULL;
	struct vm_disk disk = { .fd = *fd };
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "arguments" };
	json_t *result = NULL;
	uint32_t queues = 0;
	int r;

	json_read_string(&in, arguments, "id", &id);
	json_read_string(&in, arguments, "serial", &serial);
	json_read_bool(&in, arguments, "read_only", &disk.read_only);
	json_read_uint32(&in, arguments, "queues", VM_DISK_QUEUES_MAX, &queues);
	json_read_uint64(&in, arguments, "ops_per_second", &disk.ops_per_second);
	json_read_uint64(&in, arguments, "bytes_per_second", &disk.bytes_per_second);
	if (json_reader_finish(&in, arguments) < 0)
		return error_answer(err.msg);
	if (*fd < 0)
		return no_fd();
	disk.id = id;
	disk.serial = serial;
	disk.queues = queues;
	r = vm_add_disk(vm, &disk, &result, &err);
	return added(r, result, &err, fd);
}

static json_t *do_add_nic(struct vm *vm, const json_t *arguments, int *fd)
{
	AUTO(free) char *id = NULL;
	AUTO(free) char *mac = NULL;
	struct vm_nic nic = { .fd = *fd };
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "arguments" };
	json_t *result = NULL;
	uint32_t mtu = 0;
	int r;

	json_read_string(&in, arguments, "id", &id);
	json_read_string(&in, arguments, "mac", &mac);
	json_read_uint32(&in, arguments, "mtu", UINT16_MAX, &mtu);
	json_read_uint64(&in, arguments, "ops_per_second", &nic.ops_per_second);
	json_read_uint64(&in, arguments, "bytes_per_second", &nic.bytes_per_second);
	if (json_reader_finish(&in, arguments) < 0)
		return error_answer(err.msg);
	if (mac && vm_parse_mac(mac, nic.mac, &err) < 0)
		return error_answer(err.msg);
	if (*fd < 0)
		return no_fd();
	nic.id = id;
	nic.mtu = (uint16_t) mtu;
	r = vm_add_nic(vm, &nic, &result, &err);
	return added(r, result, &err, fd);
}

static json_t *do_remove(struct vm *vm, const json_t *arguments, struct vm_control_caller *caller)
{
	AUTO(free) char *id = NULL;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "arguments" };
	uint32_t timeout_ms = REMOVE_TIMEOUT_MS;

	json_read_string(&in, arguments, "id", &id);
	json_read_uint32(&in, arguments, "timeout_ms", REMOVE_TIMEOUT_MAX_MS, &timeout_ms);
	if (json_reader_finish(&in, arguments) < 0)
		return error_answer(err.msg);
	if (!id)
		return error_answer("arguments: \"id\" is missing");
	if (vm_remove(vm, id, timeout_ms, caller->later, caller->data, &err) < 0)
		return error_answer(err.msg);
	return NULL;
}

bool vm_control_takes_fd(const json_t *call)
{
	const char *method = json_string_value(json_object_get(call, "method"));

	return method && (strcmp(method, "add_disk") == 0 || strcmp(method, "add_nic") == 0);
}

json_t *vm_control_answer(struct vm *vm, const json_t *call, struct vm_control_caller *caller)
{
	AUTO(free) char *method = NULL;
	AUTO(json_decref) json_t *none = json_object();
	json_t *arguments = none;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "" };

	json_read_string(&in, call, "method", &method);
	json_read_object(&in, call, "arguments", &arguments);
	if (json_reader_finish(&in, call) < 0)
		return error_answer(err.msg);
	if (!method)
		return error_answer("\"method\" is missing");
	if (strcmp(method, "balloon") == 0)
		return do_balloon(vm, arguments);
	if (strcmp(method, "add_disk") == 0)
		return do_add_disk(vm, arguments, caller->fd);
	if (strcmp(method, "add_nic") == 0)
		return do_add_nic(vm, arguments, caller->fd);
	if (strcmp(method, "remove") == 0)
		return do_remove(vm, arguments, caller);
	if (json_object_size(arguments) > 0)
		return error_answer("this method has no arguments");
	if (strcmp(method, "info") == 0)
		return json_pack("{s:o}", "result", vm_info(vm));
	if (strcmp(method, "metrics") == 0)
		return json_pack("{s:o}", "result", vm_metrics(vm));
	return do_action(vm, method);
}
