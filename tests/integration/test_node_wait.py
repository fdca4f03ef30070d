"""`brume wait`: until instances are in a state, by events, also over a restart of brumed."""
import json
import signal
import subprocess

import images


def start_waiting(node, *arguments):
    """A `brume wait` that is known to have read the present state of its instances."""
    return node.popen([node.build / "brume", "wait", *arguments], stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE, text=True, env=node.environment())


def ended(waiter, code=0):
    out, err = waiter.communicate(timeout=30)
    assert waiter.returncode == code, err
    return out


def test_exit_codes(busybox):
    node, reference = busybox
    node.launch(reference, "seven", command=("sh", "-c", "exit 7"))
    node.launch(reference, "zero", command=("sh", "-c", "exit 0"))
    node.launch(reference, "killed", command=("sleep", "1000"))
    waiter = start_waiting(node, "killed", "zero", "seven")
    node.cli("stop", "--force", "killed")
    assert ended(waiter) == "137\n0\n7\n"
    # What has stopped already is told at once.
    assert node.out("wait", "zero") == "0\n"
    assert node.json("wait", "killed") == [{"name": "killed", "condition": "stopped", "exit_code": 137}]


def test_conditions(busybox):
    node, reference = busybox
    node.launch(reference, "a", command=("sleep", "1000"))
    assert node.out("wait", "--condition", "running", "a") == "a: running\n"
    node.cli("stop", "--force", "a")
    running = start_waiting(node, "--condition", "running", "a")
    gone = start_waiting(node, "--condition", "deleted", "a")
    node.cli("start", "a")
    assert ended(running) == "a: running\n"
    # It is the same one under another name.
    node.cli("rename", "a", "b")
    node.launch(reference, "a", command=("sleep", "1000"))
    node.cli("delete", "--force", "b")
    assert ended(gone) == "a: deleted\n"
    assert node.out("wait", "--condition", "deleted", "nobody") == "nobody: deleted\n"
    stopped = start_waiting(node, "a")
    node.cli("delete", "--force", "a")
    assert ended(stopped) in ("137\n", "-1\n")


def test_refusals(busybox):
    node, reference = busybox
    node.launch(reference, "a", command=("sleep", "1000"))
    for arguments, code, words in (
            (("nobody",), 1, '"nobody" does not exist'), ((), 2, ""),
            (("--condition", "happy", "a"), 2, "must be stopped, running, healthy or deleted"),
            (("-t", "x", "a"), 2, "--timeout"), (("-t", "0", "a"), 1, "the time is over"),
            (("--condition", "healthy", "a"), 1, "has no health check")):
        done = node.cli("wait", *arguments, code=code)
        assert words in done.stderr and done.stdout == ""
    late = start_waiting(node, "--condition", "running", "a", "-t", "0")
    assert ended(late) == "a: running\n"
    node.cli("stop", "--force", "a")
    never = start_waiting(node, "--condition", "running", "a")
    node.cli("delete", "a")
    assert "was deleted" in never.communicate(timeout=30)[1] and never.returncode == 1


def test_over_a_restart_of_everything(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "a", command=("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"))
    waiter = start_waiting(node, "a")
    for daemon in ("brumed", "agentd", "brumed"):
        node.kill(daemon)
        node.wait_ready()
    assert waiter.poll() is None
    node.cli("stop", "a")
    assert ended(waiter) == "3\n"
    interrupted = start_waiting(node, "--condition", "deleted", "a")
    stream = node.websocket("/1.0/events?kind=instance")
    node.cli("start", "a")
    while json.loads(stream.recv())["resource"]["status"]["state"] != "running":
        pass
    stream.close()
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.communicate(timeout=30)[0] == "" and interrupted.returncode != 0
