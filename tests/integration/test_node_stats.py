"""What instances consume (stats) and what runs in them (top), as a real node tells it."""
import json
import os
import re
import signal
import subprocess

import pytest

import images
from node import Failure, eventually

BUSY = "while :; do :; done"


def sample(node, name):
    return node.api("GET", f"/1.0/instances/{name}/stats")


def sample_when_answered(node, name):
    """brumed hears a moment later that its agent is gone, and may be asked before: 503, try again."""
    def attempt():
        try:
            return sample(node, name)
        except Failure as failure:
            assert ": 503 " in str(failure), failure
            return None
    return eventually(attempt, what="an answer of the agent")


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_one_sample_counts_what_was_done(busybox):
    node, reference = busybox
    node.launch(reference, "eater", command=(
        "sh", "-c", "head -c 8000000 /dev/zero >/data; cat /data >/dev/null; sleep 1000"))
    eventually(lambda: sample(node, "eater")["cpu"]["usage_ns"] > 0, what="processor time")
    first = sample(node, "eater")
    assert first["name"] == "eater" and len(first["uid"]) == 32
    assert first["memory"]["usage_bytes"] > 0
    assert first["memory"]["limit_bytes"] >= first["memory"]["usage_bytes"]
    assert 1 <= first["pids"]["current"] <= 3
    assert "percent" not in first["cpu"]
    # What the test sends is what the instance receives.
    node.cli("exec", "eater", "--", "sh", "-c", "for i in 1 2 3; do ping -c 1 -W 1 10.90.0.1; done", code=None)
    second = sample(node, "eater")
    assert second["network"]["tx_bytes"] > first["network"]["tx_bytes"]
    assert second["network"]["rx_packets"] >= first["network"]["rx_packets"]
    assert second["cpu"]["usage_ns"] >= first["cpu"]["usage_ns"]


def test_the_disk_is_counted(busybox):
    """Past the page cache, whose writing out version 1 counts to nobody."""
    node, reference = busybox
    if os.major(os.stat(node.state).st_dev) == 0:
        pytest.skip("the node's files are not on a disk")
    node.launch(reference, "writer", command=("sleep", "1000"))
    before, after = sample(node, "writer")["io"], {}

    def counted():
        # Again each time: a kernel short of memory for it counts to the group above (blkg_lookup_create()).
        node.cli("exec", "writer", "--", "sh", "-c", "dd if=/dev/zero of=/file bs=1M count=4 oflag=direct && "
                 "dd if=/file of=/dev/null bs=1M iflag=direct")
        after.update(sample(node, "writer")["io"])
        return all(after[name] - before[name] >= 4 << 20 for name in ("read_bytes", "write_bytes"))
    try:
        eventually(counted, what="four megabytes there and back")
    except Failure as failure:
        raise Failure(f"{failure}: {before}, then {after}") from None


def test_stats_shows_rates_limits_and_everybody(busybox):
    node, reference = busybox
    # So little that also a busy machine has more for it in some period, and it is throttled then.
    node.launch(reference, "busy", "--cpus", "0.05", "--memory", "64M", "--pids", "20",
                   command=("sh", "-c", BUSY))
    node.launch(reference, "idle", command=("sleep", "1000"))
    eventually(lambda: sample(node, "busy")["cpu"]["throttled_ns"] > 0, timeout=60, what="throttling")
    got = {one["name"]: one for one in lines(node.out("stats", "--no-stream", "-i", "2", "-f", "json"))}
    assert set(got) == {"busy", "idle"}
    assert got["idle"]["cpu"]["percent"] < got["busy"]["cpu"]["percent"] < 60
    assert got["busy"]["cpu"]["throttled_ns"] > 0
    assert got["busy"]["memory"]["limit_bytes"] == 64 << 20
    assert got["busy"]["pids"]["limit"] == 20 and got["busy"]["pids"]["current"] == 1
    assert got["idle"]["cpu"]["usage_ns"] < got["busy"]["cpu"]["usage_ns"]
    table = node.out("stats", "--no-stream", "idle")
    assert table.splitlines()[0].split()[:3] == ["NAME", "CPU", "%"]
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["idle"]
    csv = node.out("stats", "--no-stream", "-f", "csv").splitlines()
    assert csv[0].startswith("NAME,CPU %,CPU TIME,") and csv[1].startswith("busy,")
    assert int(csv[1].split(",")[4]) > 0


def test_the_stream_follows_who_runs(busybox):
    node, reference = busybox
    node.launch(reference, "one", command=("sleep", "1000"))
    stream = node.popen([node.build / "brume", "stats", "-i", "0.1", "-f", "json"],
                           stdout=subprocess.PIPE, text=True, env=node.environment())
    assert json.loads(stream.stdout.readline())["name"] == "one"
    node.launch(reference, "two", command=("sleep", "1000"))
    while json.loads(stream.stdout.readline())["name"] != "two":
        pass
    node.cli("delete", "--force", "two")
    names = []
    while names[-3:] != ["one"] * 3:
        names.append(json.loads(stream.stdout.readline())["name"])
    stream.send_signal(signal.SIGINT)
    assert stream.wait(20) == 0


def test_a_terminal_shows_one_table_again_and_again(busybox):
    node, reference = busybox
    node.launch(reference, "one", command=("sleep", "1000"))
    terminal = node.terminal("stats", "-i", "0.1", width=120)
    terminal.expect("NAME")
    terminal.expect("\x1b[H\x1b[J")
    terminal.expect("one")
    terminal.type("\x03")
    assert terminal.finish() == 0
    for number in range(4):
        node.launch(reference, f"more{number}", "--network", "none", command=("sleep", "1000"))
    small = node.terminal("stats", "-i", "0.1", width=120, height=5)
    small.expect("and 3 more")
    small.type("\x03")
    assert small.finish() == 0


def test_counters_do_not_go_back_when_the_daemons_are_killed(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "busy", command=("sh", "-c", BUSY))
    first = last = sample_when_answered(node, "busy")["cpu"]["usage_ns"]
    for daemon in ("agentd", "brumed", "keeper", "agentd"):
        now = sample_when_answered(node, "busy")["cpu"]["usage_ns"]
        assert now >= last
        last = now
        node.kill(daemon)
        node.wait_ready()
        node.wait_state("busy", "running")
    eventually(lambda: sample_when_answered(node, "busy")["cpu"]["usage_ns"] > first, what="more processor time")


def test_a_watcher_goes_on_after_a_restart(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "busy", command=("sh", "-c", BUSY))
    stream = node.popen([node.build / "brume", "stats", "-i", "0.1", "-f", "json", "busy"],
                        stdout=subprocess.PIPE, text=True, env=node.environment())
    last = json.loads(stream.stdout.readline())["cpu"]["usage_ns"]
    for daemon in ("agentd", "brumed"):
        node.kill(daemon)
        node.wait_ready()
        for _ in range(5):
            now = json.loads(stream.stdout.readline())["cpu"]["usage_ns"]
            assert now >= last
            last = now
    stream.send_signal(signal.SIGINT)
    assert stream.wait(20) == 0


def test_info_shows_what_a_running_instance_consumes(busybox):
    node, reference = busybox
    node.launch(reference, "one", "--memory", "64M", "--pids", "9", command=("sleep", "1000"))
    facts = dict(line.split(None, 1) for line in node.out("info", "one").replace("in use", "").replace(
        "cpu time", "cputime").splitlines() if len(line.split(None, 1)) == 2)
    assert facts["cputime"].endswith("s throttled") and facts["processes"] == "1 of 9"
    assert facts["disk"].endswith("written") and facts["traffic"].endswith("sent")
    assert "of 64.0 MiB" in node.out("info", "one")
    node.cli("stop", "--force", "one")
    assert "traffic" not in node.out("info", "one")


def test_stats_refuses(busybox):
    node, reference = busybox
    node.launch(reference, "still", command=("sleep", "1000"))
    node.cli("stop", "--force", "still")
    for arguments, words in ((("still",), "still: is not running"), (("nobody",), "nobody"),
                             (("-i", "0"), "--interval '0'"), (("-i", "x"), "--interval 'x'")):
        done = node.cli("stats", "--no-stream", *arguments, code=None)
        assert done.returncode == (2 if arguments[0] == "-i" else 1)
        assert words in done.stderr and done.stdout == ""
        assert len(done.stderr.splitlines()) <= 2
    status, answer = node.api("GET", "/1.0/instances/still/stats", raw=True)[:2]
    assert status == 409


def test_top_shows_the_processes(busybox):
    node, reference = busybox
    node.launch(reference, "many", "--user", "1000", command=(
        "sh", "-c", 'sleep 1000 & exec sleep 2000'))
    listed = node.json("top", "many")
    assert listed[0]["pid"] == 1 and listed[0]["command"] == "sleep 2000"
    assert {one["user"] for one in listed} == {"web"}
    assert "sleep 1000" in [one["command"] for one in listed]
    for one in listed:
        assert one["state"] in "RSDTZ" and one["rss_bytes"] >= 0 and one["cpu_ms"] >= 0
        name = open(f"/proc/{one['host_pid']}/comm").read().strip()
        assert name
        assert not re.search(r"[\x00-\x1f\x7f]", one["command"])
    table = node.out("top", "many").splitlines()
    assert table[0].split() == ["PID", "HOST", "PID", "USER", "STATE", "CPU", "TIME", "RSS", "COMMAND"]
    assert len(table) == len(listed) + 1
    node.cli("stop", "--force", "many")
    assert "is not running" in node.cli("top", "many", code=1).stderr


def test_top_escapes_what_a_process_calls_itself(busybox):
    node, reference = busybox
    script = r"""exec 3</proc/self/comm; printf 'x\033]0;evil\007\n\377(\n)' >/proc/self/comm; read a"""
    node.launch(reference, "evil", command=("sh", "-c", script + "; sleep 1000"))
    node.launch(reference, "worse", command=("sh", "-c", "sleep 1000; : $0 $1", "\x1b[2J\\", "\x7fé\n"))
    [shell] = [one for one in node.json("top", "worse") if one["pid"] == 1]
    assert shell["command"].endswith(r" \x1b[2J\\ \x7fé\x0a")
    assert "\x1b" not in node.out("top", "worse")
    assert node.json("top", "evil")[0]["pid"] == 1


@pytest.mark.slow
def test_many_instances_are_read_cheaply(busybox):
    node, reference = busybox
    count = 60
    for number in range(count):
        node.cli("launch", reference, f"n{number}", "--quiet", "--network", "none", "--", "sleep", "1000")
    agent = node.pid_of("agentd")

    def fds():
        return len(os.listdir(f"/proc/{agent}/fd"))

    before = fds()
    stream = node.popen([node.build / "brume", "stats", "-i", "0.1", "-f", "json"],
                           stdout=subprocess.PIPE, text=True, env=node.environment())
    names = set()
    while len(names) < count:
        names.add(json.loads(stream.stdout.readline())["name"])
    assert fds() < before + 40
    stream.send_signal(signal.SIGINT)
    stream.communicate(timeout=20)  # it writes much: nobody may hold it up
    assert stream.returncode == 0
