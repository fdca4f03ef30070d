"""Exec: what cannot run, what nobody waits for, and what becomes of it when daemons or people are killed."""
import json
import os
import pathlib
import signal
import subprocess
import threading

import images
import pytest
from node import eventually


@pytest.fixture
def box(busybox):
    node, reference = busybox
    node.launch(reference, "box", command=["sleep", "1000000"])
    return node


def processes(node, name):
    """The command lines of what runs in an instance."""
    pid = node.instance(name)["status"]["pid"]
    space = os.readlink(f"/proc/{pid}/ns/pid")
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns/pid") == space:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return sorted(found)


def test_what_cannot_run_has_the_codes_of_a_shell(box):
    done = box.cli("exec", "box", "--", "/no/such/program", code=127)
    assert "/no/such/program" in done.stderr and done.stdout == ""
    done = box.cli("exec", "box", "--", "/etc/hosts", code=126)
    assert "/etc/hosts" in done.stderr
    box.cli("exec", "box", "--", "sh", "-c", "exit 127", code=127)
    terminal = box.terminal("exec", "-it", "box", "nothing-like-this")
    assert terminal.finish() == 127


def test_what_exec_refuses(box):
    for options, words in ((["-e", "=x"], "NAME=VALUE"), (["-w", "tmp"], "absolute")):
        done = box.cli("exec", *options, "box", "--", "true", code=2)
        assert words in done.stderr and len(done.stderr.splitlines()) == 1
    stream = box.websocket("/1.0/instances/box/exec")
    stream.send(json.dumps({"command": ["pwd"], "workdir": "tmp"}))
    assert "exec.workdir" in str(stream.recv())
    done = box.cli("logs", "--format", "csv", "box", code=2)
    assert "--format json" in done.stderr


def test_detached(box):
    assert box.out("exec", "-d", "box", "--", "sleep", "4711") == ""
    assert "sleep 4711" in processes(box, "box")
    # It is nobody's: the agent's end changes nothing, and its own end leaves nothing.
    box.kill("agentd")
    box.start_missing()
    box.wait_ready()
    assert "sleep 4711" in processes(box, "box")
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        if path.read_bytes() == b"sleep\x004711\x00":
            os.kill(int(path.parent.name), signal.SIGKILL)
    eventually(lambda: not list(pathlib.Path(box.run_folder, "keeper").glob("b-*")), 20,
               "the keeper to forget it")
    assert "sleep 4711" not in processes(box, "box")
    box.cli("exec", "-d", "box", "--", "/no/such/program", code=127)
    box.cli("exec", "-dit", "box", "--", "sh", code=2)


def test_a_killed_client_leaves_nothing(box):
    client = box.popen([box.build / "brume", "exec", "-i", "box", "--", "sh", "-c", "echo here; cat"],
                       env=box.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "here\n"
    client.kill()
    client.communicate()
    eventually(lambda: processes(box, "box") == ["sleep 1000000"], 20, "its end")
    eventually(lambda: not list(pathlib.Path(box.run_folder, "keeper").glob("x-*")), 20,
               "the keeper to forget it")


def test_exec_does_not_notice_the_keepers_death(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.launch(reference, "box", "--insecure", command=["sleep", "1000000"])
    running = node.popen([node.build / "brume", "exec", "-i", "box", "--", "sh", "-c",
                          "while read x; do echo got $x; done; exit 9"], env=node.environment(),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stop = threading.Event()

    def storm():
        while not stop.wait(0.3):
            node.kill("keeper")
            node.start_missing()

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for number in range(40):
            done = node.cli("exec", "box", "--", "echo", str(number), code=None)
            assert done.stdout == f"{number}\n"
            # It may have ended when nobody could tell any more how: never is it refused or lost.
            assert done.returncode == 0 or "its exit code is not known" in done.stderr
            running.stdin.write(f"{number}\n")
            running.stdin.flush()
            assert running.stdout.readline() == f"got {number}\n"
    finally:
        stop.set()
        thread.join()
    node.wait_ready()
    err = running.communicate(timeout=30)[1]
    assert running.returncode == 9, err
    node.check_clean()
