"""Logs: rotation, time, cursors, and numbered lines under kill -9 of every daemon."""
import datetime
import json
import pathlib
import random
import subprocess
import threading
import time

import images
import kernel
import pytest
from node import eventually

COUNT = ["sh", "-c", "i=0; while :; do echo line-$i; i=$((i+1)); done"]


def follow(node, *args):
    return node.popen([node.build / "brume", "logs", "-f", *args], env=node.environment(),
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_numbers(lines, first=0):
    """Each once, in order."""
    for number, line in enumerate(lines, first):
        assert line == f"line-{number}", (number, line)


def test_rotation_loses_nothing(busybox):
    node, reference = busybox
    node.launch(reference, "rotor", "-di", "--log-max-size", "64K", "--log-max-files", "60",
                command=["sh", "-c", "read x; i=0; while [ $i -lt 30000 ]; do echo line-$i; "
                         "i=$((i+1)); done"])
    follower = follow(node, "rotor")
    node.cli("attach", "rotor", input="go\n", code=None)
    node.wait_state("rotor", "stopped", 60)
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    check_numbers(out.splitlines())
    assert len(out.splitlines()) == 30000
    assert node.out("logs", "rotor") == out
    folder = next((node.state / "instances").glob("*/log")).parent
    sizes = [path.stat().st_size for path in folder.glob("log*")]
    assert len(sizes) > 10 and max(sizes) <= 64 * 1024
    # Over the edges of files, too.
    for tail in (1, 1000, 5000, 29999, 30000, 40000):
        check_numbers(node.out("logs", "-n", str(tail), "rotor").splitlines(), max(0, 30000 - tail))


def test_the_oldest_files_go(busybox):
    node, reference = busybox
    node.launch(reference, "short", "--log-max-size", "64K", "--log-max-files", "3",
                command=["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done"],
                code=None)
    node.wait_state("short", "stopped", 60)
    folder = next((node.state / "instances").glob("*/log")).parent
    assert sorted(path.name for path in folder.glob("log*")) == ["log", "log.1", "log.2"]
    lines = node.out("logs", "short").splitlines()
    check_numbers(lines, 20000 - len(lines))
    assert 1000 < len(lines) < 20000
    done = node.cli("launch", "--log-max-size", "1K", reference, code=2)
    assert "--log-max-size" in done.stderr
    status, answer = node.api("POST", "/1.0/instances", {"image": reference, "log": {"max_files": 1}}, raw=True)
    assert status == 400 and "max_files" in answer["error"]


def test_since_and_until(busybox):
    node, reference = busybox
    node.launch(reference, "timed", "-di", "--log-max-size", "64K", "--log-max-files", "20",
                command=["sh", "-c", "i=0; while read x; do n=0; while [ $n -lt 3000 ]; do echo line-$i; "
                         "i=$((i+1)); n=$((n+1)); done; echo err-$i >&2; done"])
    times = []
    for batch in range(3):
        times.append(datetime.datetime.now(datetime.timezone.utc))
        attached = node.popen([node.build / "brume", "attach", "-n", "0", "timed"], env=node.environment(),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        attached.stdin.write("go\n")
        attached.stdin.flush()
        while attached.stdout.readline() != f"line-{batch * 3000 + 2999}\n":
            pass
        attached.kill()
        attached.communicate()
        eventually(lambda: f"err-{batch * 3000 + 3000}" in node.cli("logs", "--stderr", "timed").stderr, 10,
                   "the error line")
    stamp = [moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" for moment in times]
    check_numbers(node.out("logs", "--stdout", "--since", stamp[1], "timed").splitlines(), 3000)
    check_numbers(node.out("logs", "--stdout", "--since", "1h", "--until", stamp[1], "timed").splitlines())
    middle = node.out("logs", "--stdout", "--since", stamp[1], "--until", stamp[2], "timed").splitlines()
    check_numbers(middle, 3000)
    assert len(middle) == 3000
    assert node.out("logs", "--stdout", "--until", stamp[2], "-n", "2", "timed").splitlines() == [
        "line-5998", "line-5999"]
    assert node.cli("logs", "--stderr", "timed").stderr.splitlines() == ["err-3000", "err-6000", "err-9000"]
    objects = [json.loads(line) for line in
               node.out("logs", "--format", "json", "-n", "2", "timed").splitlines()]
    assert [(it["stream"], it["line"]) for it in objects][-1] == ("stderr", "err-9000")
    assert objects[0]["time"] <= objects[1]["time"]


def in_seconds(seconds):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def test_follow_ends_when_its_time_is_over(busybox):
    """Also when nothing is written any more."""
    node, reference = busybox
    node.launch(reference, "quiet", command=["sh", "-c", "echo one; sleep 1000000"])
    eventually(lambda: node.out("logs", "quiet") == "one\n", 10, "the line")
    for until in (in_seconds(0), in_seconds(kernel.patient(2))):
        follower = follow(node, "--until", until, "quiet")
        assert follower.communicate(timeout=kernel.patient(20)) == ("one\n", "") and follower.returncode == 0


def test_a_restart_does_not_forget_the_end(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.launch(reference, "busy", "--insecure", command=["sh", "-c", "while :; do echo x; usleep 100000; done"])
    until = in_seconds(kernel.patient(4))
    follower = follow(node, "-t", "--until", until, "busy")
    first = follower.stdout.readline()
    node.kill("brumed")
    node.wait_ready()
    rest = follower.communicate(timeout=kernel.patient(30))[0].splitlines()
    assert follower.returncode == 0 and first.split()[0] < rest[-1].split()[0] <= until.rstrip("Z") + "999999Z"


def test_follow_goes_on_over_restarts_of_the_instance(busybox):
    node, reference = busybox
    node.launch(reference, "again", "--restart", "on-failure:3",
                command=["sh", "-c", "echo run; exit 1"], code=None)
    follower = follow(node, "again")
    assert follower.communicate(timeout=60)[0] == "run\n" * 4


@pytest.mark.parametrize("options", [[], ["-f"], ["--format", "json"]])
def test_lines_that_cannot_be_shown_are_an_error(busybox, options):
    """The disk of the reader is full: to ask the server again would pass over the lines."""
    node, reference = busybox
    node.launch(reference, "full", command=["echo", "line"], code=None)
    node.wait_state("full", "stopped", 60)
    with open("/dev/full", "w") as full:
        done = subprocess.run([node.build / "brume", "logs", *options, "full"], env=node.environment(), stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1 and "No space left" in done.stderr, done


def test_a_cursor_of_another_instance_is_refused(busybox):
    node, reference = busybox
    node.launch(reference, "named", command=["sh", "-c", "echo one; sleep 1000000"])
    socket = node.websocket("/1.0/instances/named/logs?cursor=00000000-1-0")
    assert "before this one" in str(socket.recv())
    socket = node.websocket("/1.0/instances/named/logs?cursor=rubbish")
    assert "not one that logs gave" in str(socket.recv())


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["keeper", "agentd", "brumed", "all"])
def test_storm(node, victim):
    """Ten instances count; followers see every number once and in order, whoever is killed."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    names = [f"count{number}" for number in range(10)]
    for name in names:
        node.launch(reference, name, "--log-max-files", "8", command=[
            "sh", "-c", "i=0; while :; do n=0; while [ $n -lt 20 ]; do echo line-$i; i=$((i+1)); n=$((n+1)); "
            "done; usleep 20000; done"])
    followers = {name: follow(node, name) for name in names}
    seen = {name: [] for name in names}

    def read(name):
        for line in followers[name].stdout:
            seen[name].append(line.rstrip("\n"))

    threads = [threading.Thread(target=read, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    eventually(lambda: all(seen.values()), 20, "all followers to follow")
    rng = random.Random(7)
    deadline = time.monotonic() + 12
    kills = 0
    while time.monotonic() < deadline:
        node.kill(victim if victim != "all" else rng.choice(["keeper", "agentd", "brumed"]))
        node.start_missing()
        node.wait_ready()
        kills += 1
        threading.Event().wait(rng.random() * 0.5)
    assert kills >= 5
    for name in names:
        node.cli("stop", "-t", "0", name)
    for thread in threads:
        thread.join(60)
    for name in names:
        assert followers[name].wait(30) == 0, followers[name].stderr.read()
        check_numbers(seen[name])
        assert len(seen[name]) > 500
        assert node.out("logs", name).splitlines() == seen[name]
    assert pathlib.Path(node.run_folder, "keeper.spool").exists()
    node.check_clean()
