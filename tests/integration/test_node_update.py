"""Limits and more of an instance that runs are changed: at once, completely or not at all."""
import http.client
import json
import pathlib
import re
import socket

import pytest

import images

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def in_force(node, name):
    """(quota, memory, pids) as the kernel has them; None = no limit."""
    uid = node.instance(name)["meta"]["uid"]

    def read(controller, file):
        for path in (CGROUPS / controller / node.prefix / uid / file, CGROUPS / node.prefix / uid / file):
            if path.exists():
                return path.read_text().split()[0]
        raise FileNotFoundError(file)

    if (CGROUPS / "memory").exists():
        quota = int(read("cpu", "cpu.cfs_quota_us"))
        memory = int(read("memory", "memory.limit_in_bytes"))
    else:
        quota = -1 if read("cpu", "cpu.max") == "max" else int(read("cpu", "cpu.max"))
        memory = read("memory", "memory.max")
        memory = 1 << 62 if memory == "max" else int(memory)
    pids = read("pids", "pids.max")
    return (None if quota < 0 else quota / 100000, None if memory >= 1 << 62 else memory,
            None if pids == "max" else int(pids))


def test_limits_change_at_once_and_stay(busybox):
    node, reference = busybox
    node.launch(reference, "web", "--cpus", "0.5", command=("sleep", "1000"))
    before = node.instance("web")
    assert in_force(node, "web") == (0.5, None, None)
    assert node.out("update", "--cpus", "1.5", "-m", "64M", "--pids", "50", "web") == "web: updated\n"
    after = node.instance("web")
    assert in_force(node, "web") == (1.5, 64 << 20, 50)
    assert after["status"]["pid"] == before["status"]["pid"]
    assert after["meta"]["generation"] == before["meta"]["generation"] + 1
    assert after["status"]["generation"] == after["meta"]["generation"]
    # What is not named stays; what is taken away is no limit.
    node.cli("update", "--memory", "none", "web")
    assert in_force(node, "web") == (1.5, None, 50)
    node.cli("restart", "--force", "web")
    assert in_force(node, "web") == (1.5, None, 50)
    node.cli("update", "--cpus", "0", "--pids", "none", "web")
    assert in_force(node, "web") == (None, None, None)
    assert "limits" not in node.instance("web")["spec"]
    # One that does not run has them at its next start; one that is paused has them at once.
    node.cli("stop", "--force", "web")
    node.cli("update", "--pids", "7", "web")
    node.cli("start", "web")
    assert in_force(node, "web") == (None, None, 7)
    node.cli("pause", "web")
    node.cli("update", "--pids", "9", "web")
    assert in_force(node, "web") == (None, None, 9)
    assert node.instance("web")["status"]["state"] == "paused"
    node.cli("resume", "web")


def test_memory_below_what_is_used_is_refused(busybox):
    node, reference = busybox
    node.launch(reference, "fat", "-m", "128M", "--env", "A=1", command=(
        "sh", "-c", "mkdir /dev/shm/x; head -c 40000000 /dev/zero >/dev/shm/x/fat; echo full; sleep 1000"))
    stream = node.websocket("/1.0/instances/fat/logs?follow=1")
    assert b"full" in stream.recv()
    stream.close()
    done = node.cli("update", "-m", "20M", "--cpus", "1", "--env", "A=2", "--label", "x=y", "fat", code=1)
    assert re.search(r"memory: it uses \d+\.\d MiB now, more than a limit of 20\.0 MiB", done.stderr)
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""
    # Nothing has changed, and the node has carried that out.
    it = node.wait_instance("fat", lambda it: it["status"]["generation"] == it["meta"]["generation"])
    assert it["spec"]["limits"] == {"memory_bytes": 128 << 20}
    assert it["spec"]["env"] == {"A": "1"} and "labels" not in it["meta"]
    assert in_force(node, "fat") == (None, 128 << 20, None)
    assert "update_error" not in it["status"] and it["status"]["state"] == "running"
    node.cli("update", "-m", "100M", "fat")
    assert in_force(node, "fat") == (None, 100 << 20, None)


def test_what_else_can_be_changed(busybox):
    node, reference = busybox
    node.launch(reference, "web", "--label", "a=1", "--label", "b=2", "--env", "X=1", "--env", "Y=1",
                command=("sh", "-c", "echo $X$Y; sleep 1000"))
    generation = node.instance("web")["meta"]["generation"]
    node.cli("update", "--label", "a=3", "--remove-label", "b", "--label", "c=", "web")
    it = node.instance("web")
    assert it["meta"]["labels"] == {"a": "3", "c": ""} and it["meta"]["generation"] == generation
    assert "next start" in node.cli("update", "--env", "X=2", "--remove-env", "Y", "web").stderr
    node.cli("restart", "--force", "web")
    assert node.out("logs", "web").split() == ["11", "2"]
    # A restart policy is that of the next end.
    node.cli("update", "--restart", "on-failure:1", "--stop-timeout", "1", "web")
    assert node.instance("web")["spec"]["restart"] == {"policy": "on-failure", "max_retries": 1}
    pid = node.instance("web")["status"]["pid"]
    node.run(["kill", "-KILL", str(pid)])
    it = node.wait_instance("web", lambda it: it["status"].get("restarts") == 1
                            and it["status"]["state"] == "running")
    assert it["status"]["pid"] != pid


def test_refusals_change_nothing(busybox):
    node, reference = busybox
    node.launch(reference, "web", "--rm", command=("sleep", "1000"))
    before = node.instance("web")
    for arguments, code, words in (
            ((), 2, "what is to be changed is missing"), (("--cpus", "x"), 2, "--cpus"),
            (("-m", "12Q"), 2, "--memory"), (("-m", "4K"), 1, "limits.memory_bytes"),
            (("--pids", "-1"), 2, "--pids"), (("--label", "x"), 2, "NAME=VALUE"),
            (("--label", "!x=1"), 1, "label"), (("--restart", "maybe"), 2, "restart"),
            (("--restart", "always"), 1, "remove_on_exit"), (("--publish", "1:2"), 2, "--publish"),
            (("--stop-signal", "FOO"), 2, "--stop-signal")):
        done = node.cli("update", *arguments, "web", code=code)
        assert words in done.stderr and done.stdout == "", done.stderr
    for body, words in (({"publish": []}, "publish: cannot be changed after the launch"),
                        ({"limits": 5}, "limits"), ({"limits": {"cpus": 0}}, "limits.cpus"),
                        ({"limits": {"gpus": 1}}, "limits.gpus"), ({"env": {"A=B": "x"}}, "env"),
                        ({"env": {"A": 5}}, "env"), ({"labels": [1]}, "labels"),
                        ({"restart": {"policy": "no", "max_retries": 3}}, "max_retries")):
        status, answer = node.api("PATCH", "/1.0/instances/web", body, raw=True)
        assert status == 400 and words in answer["error"], answer
    assert node.api("PATCH", "/1.0/instances/nobody", {"labels": {}}, raw=True)[0] == 404
    assert node.api("PATCH", "/1.0/instances/web", {}, raw=True)[0] == 202
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(node.socket)
    connection.request("PATCH", "/1.0/instances/web", '{"labels":{"a":"b"}}', {"If-Match": '"1"'})
    assert connection.getresponse().status == 412
    connection.close()
    after = node.instance("web")
    assert after["spec"] == before["spec"] and after["meta"] == before["meta"]


@pytest.mark.parametrize("daemon", ["agentd", "brumed", "keeper"])
def test_kill_9_in_the_middle(node, daemon):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "web", command=("sleep", "1000"))
    pid = node.instance("web")["status"]["pid"]
    for pids in range(20, 25):
        operation = node.api("PATCH", "/1.0/instances/web", {"limits": {"pids": pids, "cpus": pids / 10}})
        node.kill(daemon)
        node.wait_ready()
        assert node.wait_operation(operation)["status"]["state"] == "done"
        assert in_force(node, "web") == (pids / 10, None, pids)
    it = node.instance("web")
    assert it["status"]["pid"] == pid and it["status"]["generation"] == it["meta"]["generation"]
    # A next agent knows what is in force and has nothing to do.
    node.kill("agentd")
    node.wait_ready()
    assert json.dumps(node.instance("web")["spec"], sort_keys=True) == json.dumps(it["spec"], sort_keys=True)
