"""Restart policies, --rm, logs, exec on a terminal, operations and events."""
import json
import threading

import images
import pytest
from node import eventually
from registry import FaultyRegistry


def shell(node, reference, name, script, *options, **more):
    return node.launch(reference, name, *options, command=["sh", "-c", script], **more)


# -- restart policies ------------------------------------------------------------------------------

def test_no_restart_keeps_the_exit_code(busybox):
    node, reference = busybox
    shell(node, reference, "once", "exit 7", code=None)
    it = node.wait_state("once", "stopped")
    assert it["status"]["exit_code"] == 7
    assert not it["status"].get("restarts")


def test_on_failure_restarts_as_often_as_asked(busybox):
    node, reference = busybox
    shell(node, reference, "flaky", "exit 3", "--restart", "on-failure:2", code=None)
    it = node.wait_instance("flaky", lambda it: it["status"].get("restarts") == 2 and
                            it["status"]["state"] == "stopped")
    assert it["status"]["exit_code"] == 3


def test_on_failure_leaves_a_success_alone(busybox):
    node, reference = busybox
    shell(node, reference, "good", "exit 0", "--restart", "on-failure", code=None)
    assert not node.wait_state("good", "stopped")["status"].get("restarts")


def test_always_restarts_and_stop_ends_it(busybox):
    node, reference = busybox
    shell(node, reference, "phoenix", "sleep 1000000", "--restart", "always")
    first = node.instance("phoenix")["status"]["pid"]
    node.run(["kill", "-9", str(first)])
    it = node.wait_instance("phoenix", lambda it: it["status"]["state"] == "running" and
                            it["status"]["pid"] != first)
    assert it["status"]["restarts"] == 1
    node.cli("stop", "--timeout", "1", "phoenix")
    assert node.instance("phoenix")["status"]["state"] == "stopped"


def test_rm_deletes_what_has_ended(busybox):
    node, reference = busybox
    shell(node, reference, "brief", "exit 0", "--rm", code=None)
    eventually(lambda: node.api("GET", "/1.0/instances/brief", raw=True)[0] == 404, 20,
               "the end of an instance with --rm")


# -- limits, see test_node_confine.py; here: how they are shown --------------------------------------

def test_limits_are_shown(busybox):
    node, reference = busybox
    node.launch(reference, "limited", "--memory", "64M", "--cpus", "0.5", "--pids", "20")
    limits = node.json("info", "limited")["spec"]["limits"]
    assert limits == {"memory_bytes": 64 << 20, "cpus": 0.5, "pids": 20}


# -- logs ------------------------------------------------------------------------------------------

def test_logs_keep_streams_and_order(busybox):
    node, reference = busybox
    shell(node, reference, "talks", "for i in 1 2 3; do echo out$i; echo err$i >&2; done; sleep 100000")
    done = eventually(lambda: (d := node.cli("logs", "talks")).stdout.count("\n") == 3 and
                      d.stderr.count("\n") == 3 and d, 10, "six lines")
    assert done.stdout == "out1\nout2\nout3\n" and done.stderr == "err1\nerr2\nerr3\n"
    # Two pipes have no common order: the last line is the last of one of them.
    last = node.cli("logs", "--tail", "1", "talks")
    assert last.stdout + last.stderr in ("err3\n", "out3\n")


def test_logs_follow_until_the_end(busybox):
    node, reference = busybox
    shell(node, reference, "counts",
          "mkfifo /tmp/go; echo ready; read line < /tmp/go; for i in 1 2 3; do echo $i; done")
    follower = node.popen([node.build / "brume", "logs", "-f", "counts"], env=node.environment(),
                          stdout=-1, text=True)
    assert follower.stdout.readline() == "ready\n"
    # The instance may end, and take the command along, before that has said goodbye.
    node.cli("exec", "counts", "--", "sh", "-c", "echo > /tmp/go", code=None)
    assert follower.stdout.read() == "1\n2\n3\n"
    assert follower.wait(20) == 0


def test_logs_with_timestamps(busybox):
    node, reference = busybox
    shell(node, reference, "stamped", "echo hello; sleep 100000")
    line = eventually(lambda: node.out("logs", "--timestamps", "stamped"), 10, "a line")
    assert line.startswith("20") and line.endswith(" hello\n")


def test_logs_survive_the_end_of_the_instance(busybox):
    node, reference = busybox
    shell(node, reference, "ended", "echo last words; exit 1", code=None)
    node.wait_state("ended", "stopped")
    assert node.out("logs", "ended") == "last words\n"


def test_a_flood_of_output_is_kept_in_bounds(busybox):
    node, reference = busybox
    shell(node, reference, "flood", "head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo; echo end")
    node.wait_state("flood", "stopped", timeout=90)
    assert node.out("logs", "--tail", "1", "flood") == "end\n"
    logs = sum(p.stat().st_size for p in (node.state / "instances").glob("*/log*"))
    assert logs < 64 << 20


# -- exec ------------------------------------------------------------------------------------------

def test_exec_gives_code_output_and_input(busybox):
    node, reference = busybox
    node.launch(reference, "ex")
    assert node.cli("exec", "ex", "--", "sh", "-c", "exit 42", code=42)
    done = node.cli("exec", "ex", "--", "sh", "-c", "echo o; echo e >&2")
    assert (done.stdout, done.stderr) == ("o\n", "e\n")
    assert node.cli("exec", "ex", "--", "sh", "-c", "kill -9 $$", code=137)
    assert node.cli("exec", "-i", "ex", "--", "wc", "-c", input="x" * 300000).stdout == "300000\n"
    assert node.cli("exec", "ex", "--", "no-such-program", code=None).returncode == 127
    assert node.cli("exec", "ex", "--", "/etc/passwd", code=None).returncode == 126
    assert node.out("exec", "--env", "A=b", "--workdir", "/tmp", "--user", "1000", "ex", "--", "sh",
                    "-c", "echo $A; pwd; id -u") == "b\n/tmp\n1000\n"


def test_exec_of_much_output(busybox):
    node, reference = busybox
    node.launch(reference, "much")
    done = node.cli("exec", "much", "--", "head", "-c", "20000000", "/dev/zero", text=False)
    assert len(done.stdout) == 20000000


def test_exec_on_a_terminal(busybox):
    node, reference = busybox
    node.launch(reference, "tty")
    terminal = node.terminal("exec", "-it", "tty", "--", "sh", width=91, height=33)
    terminal.type("tty; stty size; echo mark$((20+2))\n")
    before = terminal.expect("mark22")
    assert "/dev/pts/" in before or "/dev/console" in before, before
    assert "33 91" in before, before
    terminal.type("while [ \"$(stty size)\" != '44 101' ]; do sleep 0.1; done; echo new$((1+1))\n")
    terminal.expect("echo new")
    terminal.resize(101, 44)
    terminal.expect("new2")
    # An interrupt goes to what runs in the terminal, not to the shell or to brume.
    terminal.type("sleep 1000; echo code=$?\n")
    terminal.expect("sleep 1000; echo code=$?")
    eventually(lambda: "sleep 1000" in node.out("exec", "tty", "--", "ps").replace("sh -c", ""), 10,
               "sleep on the terminal")
    terminal.type("\x03")
    terminal.type("echo still$((1+2))\n")
    terminal.expect("still3")
    terminal.type("exit 5\n")
    assert terminal.finish() == 5


def test_exec_ends_when_its_client_dies(busybox):
    node, reference = busybox
    node.launch(reference, "orphans")
    client = node.popen([node.build / "brume", "exec", "-i", "orphans", "--", "cat"],
                        env=node.environment(), stdin=-1, stdout=-1)
    client.stdin.write(b"hello\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"hello\n"
    client.kill()
    client.wait()
    eventually(lambda: " cat" not in node.out("exec", "orphans", "--", "ps"), 15, "the end of cat")


# -- operations and events -------------------------------------------------------------------------

def test_a_pull_can_be_cancelled(clean, scratch):
    registry, gate = FaultyRegistry(clean), threading.Event()
    image = images.big(20_000_000)
    reference = registry.add(image, "slow:1")
    digest = json.loads(image.manifest)["layers"][1]["digest"]
    registry.faults[digest] = ("hang", gate)
    try:
        operation = clean.api("POST", "/1.0/images", {"reference": reference, "insecure": True})
        eventually(lambda: any(digest in path for _, path, _ in registry.requests), 20,
                   "the request for the layer")
        found = clean.api("GET", f"/1.0/operations/{operation['meta']['name']}")
        assert found["status"]["state"] == "running"
        clean.cli("operation", "cancel", operation["meta"]["name"])
        done = clean.wait_operation(operation)
        assert done["status"]["state"] == "cancelled", done
    finally:
        gate.set()
        registry.stop()


def test_events_resume_where_the_cursor_stands(busybox):
    node, reference = busybox
    stream = node.websocket("/1.0/events?kind=instance")
    node.launch(reference, "seen")
    first = json.loads(stream.recv())
    stream.close()
    assert first["action"] == "created" and first["name"] == "seen"
    node.cli("delete", "--force", "seen")
    stream = node.websocket(f"/1.0/events?kind=instance&cursor={first['revision']}")
    revision, actions = first["revision"], []
    while "deleted" not in actions:
        event = json.loads(stream.recv())
        assert event["revision"] > revision
        revision = event["revision"]
        actions.append(event["action"])
    stream.close()
    assert "updated" in actions


def test_events_on_the_command_line(busybox):
    node, reference = busybox
    watcher = node.popen([node.build / "brume", "events", "-f", "json"], env=node.environment(),
                         stdout=-1, text=True)
    try:
        stop = threading.Event()

        def make_noise():
            for number in range(20):
                if stop.is_set():
                    return
                node.launch(reference, f"noise{number}")
                node.cli("delete", "--force", f"noise{number}")
        noise = threading.Thread(target=make_noise)
        noise.start()
        event = json.loads(watcher.stdout.readline())
        stop.set()
        noise.join()
        assert event["kind"] and event["revision"]
    finally:
        watcher.kill()


def test_a_launch_in_progress_can_be_watched(busybox):
    node, reference = busybox
    operation = node.api("POST", "/1.0/instances", {"name": "watched", "image": reference})
    assert operation["spec"]["action"] == "launch"
    assert operation["spec"]["target"]["name"] == "watched"
    done = node.wait_operation(operation)
    assert done["status"]["state"] == "done"
    assert done["status"]["finished"]


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_actions_may_be_repeated(busybox, action):
    node, reference = busybox
    node.launch(reference, "twice")
    more = ["--timeout", "1"] if action == "stop" else []
    node.cli(action, *more, "twice")
    state = node.instance("twice")["status"]["state"]
    node.cli(action, *more, "twice", code=None)
    assert node.instance("twice")["status"]["state"] == state
