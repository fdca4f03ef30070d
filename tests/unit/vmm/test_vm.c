#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/kvm.h"
#include "kern/sock.h"
#include "vmm/loop.h"
#include "vmm/vm.h"
#include "vmm/vm_control.h"

/*
 * A whole machine without a kernel: its CPUs start at the reset vector, where nothing is, so they
 * are kept paused.
 */
struct test {
	struct loop *loop;
	struct vm *vm;
	int ended;
	enum vm_end end;
};

static void on_end(void *data, enum vm_end end, const char *why)
{
	struct test *test = data;

	(void) why;
	test->ended++;
	test->end = end;
	loop_quit(test->loop, 0);
}

static int make(struct test *test, const struct vm_config *more, struct error *err)
{
	struct vm_config config = {
		.kvm_fd = -1,
		.cpus = more && more->cpus ? more->cpus : 2,
		.baseline = "host",
		.memory = { .size_bytes = more && more->memory.size_bytes ? more->memory.size_bytes
									  : 8 << 20,
			    .fd = -1 },
		.no_reboot = true,
		.serial = true,
		.serial_in_fd = -1,
		.serial_out_fd = -1,
	};

	assert_int_equal(loop_new(&test->loop, NULL), 0);
	return vm_new(&config, test->loop, on_end, test, &test->vm, err);
}

static void unmake(struct test *test)
{
	vm_free(test->vm);
	loop_free(test->loop);
}

static void need_kvm(void)
{
	AUTO(fd_close) int fd = kvm_open(-1);

	if (fd < 0) {
		print_message("no usable /dev/kvm here\n");
		skip();
	}
}

static const char *ask(struct vm *vm, const char *call, json_t **ret)
{
	AUTO(json_decref) json_t *request = json_loads(call, 0, NULL);
	int fd = -1;

	json_decref(*ret);
	*ret = vm_control_answer(vm, request, &(struct vm_control_caller){ &fd, NULL, NULL });
	return json_string_value(json_object_get(*ret, "error"));
}

static json_t *result(json_t *answer, const char *name)
{
	return json_object_get(json_object_get(answer, "result"), name);
}

static void answers_calls(void **state)
{
	AUTO(json_decref) json_t *answer = NULL;
	struct test test = {};

	(void) state;
	need_kvm();
	assert_int_equal(make(&test, NULL, NULL), 0);
	assert_non_null(strstr(ask(test.vm, "{\"method\":\"pause\"}", &answer), "ended"));
	assert_int_equal(vm_start(test.vm, true, NULL), 0);
	assert_null(ask(test.vm, "{\"method\":\"info\"}", &answer));
	assert_string_equal(json_string_value(result(answer, "state")), "paused");
	assert_int_equal(json_integer_value(result(answer, "cpus")), 2);
	assert_int_equal(json_integer_value(result(answer, "memory_bytes")), 8 << 20);
	assert_null(ask(test.vm, "{\"method\":\"metrics\"}", &answer));
	assert_int_equal(json_array_size(result(answer, "cpus")), 2);
	assert_true(json_is_object(result(answer, "kvm")));
	assert_null(ask(test.vm, "{\"method\":\"pause\"}", &answer));
	assert_null(ask(test.vm, "{\"method\":\"power_button\"}", &answer));

	assert_non_null(ask(test.vm, "{}", &answer));
	assert_non_null(ask(test.vm, "{\"method\":5}", &answer));
	assert_non_null(ask(test.vm, "{\"method\":\"info\",\"what\":1}", &answer));
	assert_non_null(ask(test.vm, "{\"method\":\"info\",\"arguments\":{\"a\":1}}", &answer));
	assert_non_null(strstr(ask(test.vm, "{\"method\":\"nonsense\"}", &answer), "pause"));
	assert_non_null(ask(test.vm, "{\"method\":\"balloon\",\"arguments\":{\"x\":1}}", &answer));

	assert_null(ask(test.vm, "{\"method\":\"quit\"}", &answer));
	assert_int_equal(loop_run(test.loop), 0);
	assert_int_equal(test.ended, 1);
	assert_int_equal(test.end, VM_QUIT);
	assert_null(ask(test.vm, "{\"method\":\"info\"}", &answer));
	assert_string_equal(json_string_value(result(answer, "state")), "ended");
	unmake(&test);
}

static void reset_ends_it_with_no_reboot(void **state)
{
	AUTO(json_decref) json_t *answer = NULL;
	struct test test = {};

	(void) state;
	need_kvm();
	assert_int_equal(make(&test, NULL, NULL), 0);
	assert_int_equal(vm_start(test.vm, true, NULL), 0);
	assert_null(ask(test.vm, "{\"method\":\"reset\"}", &answer));
	assert_null(ask(test.vm, "{\"method\":\"quit\"}", &answer)); /* the first one counts */
	assert_int_equal(loop_run(test.loop), 0);
	assert_int_equal(test.end, VM_RESET);
	assert_string_equal(vm_end_name(test.end), "reset");
	unmake(&test);
}

static void refuses_too_much(void **state)
{
	struct vm_config cpus = { .cpus = 65 };
	struct vm_config memory = { .memory = { .size_bytes = 1ull << 44 } };
	struct test test = {};
	struct error err = {};

	(void) state;
	assert_true(make(&test, &cpus, &err) < 0);
	assert_non_null(strstr(err.msg, "1 to 64 CPUs"));
	unmake(&test);
	test = (struct test){};
	assert_true(make(&test, &memory, &err) < 0);
	assert_non_null(strstr(err.msg, "more than this host has"));
	unmake(&test);
}

/* Over the socket: the answer, and the end of a connection that breaks the format. */
static void *client(void *path)
{
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(fd_close) int good = sock_connect(path, SOCK_STREAM);
	AUTO(fd_close) int bad = sock_connect(path, SOCK_STREAM);
	AUTO(json_decref) json_t *call = json_pack("{s:s}", "method", "info");
	char answer[4096];
	struct frame frame;
	size_t used;
	ssize_t n;

	assert_true(good >= 0 && bad >= 0);
	for (int i = 0; i < 16; i++)
		assert_int_equal(send(bad, "x", 1, MSG_NOSIGNAL), 1);
	do {
		n = recv(bad, answer, sizeof(answer), 0);
	} while (n < 0);
	assert_int_equal(n, 0);
	assert_int_equal(frame_append_json(&out, FRAME_CALL, 77, call), 0);
	json_object_set_new(call, "method", json_string("quit"));
	assert_int_equal(frame_append_json(&out, FRAME_CALL, 78, call), 0);
	assert_int_equal(send(good, out.data, out.size, MSG_NOSIGNAL), out.size);
	do {
		n = recv(good, answer, sizeof(answer), 0);
	} while (n < 0);
	assert_int_equal(frame_decode(answer, (size_t) n, &frame, &used, NULL), 1);
	assert_int_equal(frame.type, FRAME_RETURN);
	assert_int_equal(frame.id, 77);
	assert_non_null(memmem(frame.body, frame.size, "brume-vmm", 9));
	return NULL;
}

static void speaks_on_a_socket(void **state)
{
	AUTO(vm_control_free) struct vm_control *control = NULL;
	char path[64];
	struct test test = {};
	pthread_t thread;

	(void) state;
	need_kvm();
	snprintf(path, sizeof(path), "/tmp/brume-test-control-%d", (int) getpid());
	assert_int_equal(make(&test, NULL, NULL), 0);
	assert_int_equal(vm_control_new(path, -1, test.loop, test.vm, &control, NULL), 0);
	assert_int_equal(vm_start(test.vm, true, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, client, path), 0);
	assert_int_equal(loop_run(test.loop), 0);
	assert_int_equal(test.end, VM_QUIT);
	pthread_join(thread, NULL);
	unlink(path);
	vm_control_free(TAKE_PTR(control));
	unmake(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_calls),
		cmocka_unit_test(reset_ends_it_with_no_reboot),
		cmocka_unit_test(refuses_too_much),
		cmocka_unit_test(speaks_on_a_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
