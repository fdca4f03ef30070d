"""Health checks: what they find, when they look, and what follows."""
import json
import os
import signal

import images
import kernel
import pytest
from node import eventually

FAST = ["--health-interval", "200ms", "--health-timeout", f"{kernel.patient(2):g}s"]


def health(node, name):
    return node.instance(name)["status"].get("health", {})


def becomes(node, name, state, timeout=15):
    return eventually(lambda: health(node, name).get("state") == state and health(node, name),
                      timeout, f"{name} to be {state}, not {health(node, name)}")


def inside(node, name, script, **more):
    return node.cli("exec", name, "--", "sh", "-c", script, **more).stdout


COUNTED = "echo x >> /root/count; "


def checked(node, name, more=5):
    """Returns when that many more checks were made; their command begins with COUNTED."""
    def count():
        return int(inside(node, name, "wc -l < /root/count", code=None) or 0)
    before = count()
    eventually(lambda: count() >= before + more, 20, f"{more} more checks of {name}")


def follow(node, name):
    link = node.websocket(f"/1.0/events?kind=instance&name={name}", timeout=10)
    return link


def states(link, until):
    """The health of each event, up to and with the one that is `until`."""
    seen = []
    while True:
        event = json.loads(link.recv())
        found = event["resource"]["status"].get("health", {}).get("state")
        seen.append(found)
        if found == until:
            return seen


def test_a_command_decides_and_people_hear_of_changes_only(busybox):
    node, reference = busybox
    node.launch(reference, "cmd", *FAST, "--health-retries", "2",
                "--health-cmd",
                COUNTED + "test -e /root/good && echo fine || { echo broken; exit 4; }")
    bad = becomes(node, "cmd", "unhealthy")
    assert bad["failing_streak"] == 2 and bad["log"][-1]["exit_code"] == 4
    assert bad["log"][-1]["output"] == "broken" and len(bad["log"]) == 2
    assert "running (unhealthy)" in node.out("list")
    info = node.out("info", "cmd")
    assert "unhealthy" in info and "broken" in info
    link = follow(node, "cmd")
    inside(node, "cmd", "touch /root/good")
    assert states(link, "healthy") == ["healthy"]
    good = health(node, "cmd")
    assert good["failing_streak"] == 0 and good["log"][-1]["output"] == "fine"
    # Many checks later nothing has been told.
    first = node.instance("cmd")["meta"]["revision"]
    checked(node, "cmd")
    assert node.instance("cmd")["meta"]["revision"] == first
    inside(node, "cmd", "rm /root/good")
    found = states(link, "unhealthy")
    assert found == ["healthy", "unhealthy"], found
    link.close()


def test_http_and_tcp_from_outside_of_the_instance(clean):
    reference = clean.registry.push(images.web(), "web:1")
    clean.launch(reference, "http", "--insecure", *FAST, "--health-http", "80/index.html")
    clean.launch(reference, "tcp", *FAST, "--health-tcp", "80", "--health-retries", "1")
    clean.launch(reference, "missing", *FAST, "--health-http", "/nothing", "--health-retries", "1")
    good = becomes(clean, "http", "healthy")
    assert good["log"][-1]["output"] == "GET /index.html on port 80: 200"
    becomes(clean, "tcp", "healthy")
    assert becomes(clean, "missing", "unhealthy")["log"][-1]["output"].endswith("404")
    clean.cli("stop", "--timeout", "0", "tcp")
    assert "health" not in clean.instance("tcp")["status"]


def test_what_answers_strangely_is_unhealthy(busybox):
    node, reference = busybox
    answers = {"garbage": "printf '\\377\\000garbage\\r\\n'", "endless": "cat /dev/zero",
               "silent": "sleep 100", "nothing": "true"}
    for name, command in answers.items():
        node.launch(reference, name, "--health-http", "9000/", "--health-interval", "100ms",
                    "--health-timeout", "400ms", "--health-retries", "2",
                    command=["sh", "-c", f"nc -ll -p 9000 -e sh -c \"{command}\""])
    for name in answers:
        words = becomes(node, name, "unhealthy")["log"][-1]["output"]
        assert words.startswith("port 9000: "), words


def test_the_probe_has_no_power(busybox):
    """The process that talks to an instance is caught in the act."""
    node, reference = busybox
    node.launch(reference, "holds", "--health-tcp", "9000", command=["sleep", "1000000"])
    namespace = f"/proc/{node.instance('holds')['status']['pid']}/ns/net"
    inside(node, "holds", "nc -l -p 9000 -e sleep 100 > /dev/null 2>&1 &")
    probe = node.popen(["sh", "-c", f"exec 3< {namespace}; exec {node.build}/brume-probe "
                        "--netns-fd 3 --timeout-ms 20000 http 9000 /"])
    pid = probe.pid

    def caught():
        status = open(f"/proc/{pid}/status").read()
        return "Seccomp:\t2" in status and status
    status = eventually(caught, 10, "the probe to be confined")
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(lines["Uid"].split()) == set(lines["Gid"].split()) == {str(0x6fffffff)}
    assert lines["NoNewPrivs"] == "1" and lines["Groups"].strip() == ""
    for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(lines[which], 16) == 0, which
    probe.kill()
    probe.wait()


def test_a_check_that_takes_too_long_ends_with_all_its_processes(busybox):
    node, reference = busybox
    node.launch(reference, "slow", "--health-interval", "300ms", "--health-timeout", "300ms",
                "--health-retries", "2", "--health-cmd",
                "sleep 7777 & (sleep 7777 &) ; sh -c 'sleep 7777; true'; true")
    bad = becomes(node, "slow", "unhealthy")
    assert "longer than 300 ms" in bad["log"][-1]["output"] and bad["log"][-1]["exit_code"] == -1
    node.cli("pause", "slow")
    node.cli("resume", "slow")

    def leftovers():
        found = inside(node, "slow", "ps | grep -c '[s]leep 7777'", code=None)
        return int(found or 0) <= 3
    # One check may be under way; those before it are gone.
    for _ in range(5):
        assert eventually(leftovers, 5, "the earlier checks' processes to be gone")


def test_output_is_bounded_and_harmless(busybox):
    node, reference = busybox
    node.launch(reference, "loud", *FAST, "--health-retries", "1", "--health-cmd",
                "printf 'a\\033[31m\\377b\\n'; dd if=/dev/zero bs=1M count=20 | tr '\\0' x; exit 1")
    output = becomes(node, "loud", "unhealthy")["log"][-1]["output"]
    assert output.startswith("a\\x1b[31m\\xffb\n") and len(output) < 1100
    assert "\033" not in node.out("info", "loud")


def test_the_start_period_forgives(busybox):
    node, reference = busybox
    node.launch(reference, "late", *FAST, "--health-retries", "1", "--health-start-period", "1h",
                "--health-cmd", COUNTED + "test -e /root/good")
    checked(node, "late")
    assert health(node, "late")["state"] == "starting"
    inside(node, "late", "touch /root/good")
    becomes(node, "late", "healthy")
    # It was healthy once: now failures count, whatever the period says.
    inside(node, "late", "rm /root/good")
    becomes(node, "late", "unhealthy")


def test_the_start_period_has_an_interval_of_its_own(clean):
    """Also the image's: an hour between checks, but not while it starts."""
    image = images.Image([images.busybox_layer(images.BUSYBOX)], {
        "Cmd": ["sleep", "2147483647"], "Env": [images.PATH_ENV],
        "Healthcheck": {"Test": ["CMD-SHELL", COUNTED + "test -e /root/good"],
                        "Interval": 3600 * 10**9, "StartPeriod": 3600 * 10**9,
                        "StartInterval": 2 * 10**8}})
    reference = clean.registry.push(image, "starting:1")
    clean.launch(reference, "image", "--insecure")
    clean.launch(reference, "own", "--health-start-interval", "100ms")
    for name in ("image", "own"):
        checked(clean, name)
        inside(clean, name, "touch /root/good")
        becomes(clean, name, "healthy")


def test_the_images_check_is_the_default(clean):
    image = images.Image([images.busybox_layer(images.BUSYBOX)], {
        "Cmd": ["sleep", "2147483647"], "Env": [images.PATH_ENV],
        "Healthcheck": {"Test": ["CMD-SHELL", "echo from the image; test ! -e /root/bad"],
                        "Interval": 200000000, "Timeout": 3000000000, "Retries": 1}})
    reference = clean.registry.push(image, "checked:1")
    clean.launch(reference, "own", "--insecure")
    assert becomes(clean, "own", "healthy")["log"][-1]["output"] == "from the image"
    inside(clean, "own", "touch /root/bad")
    becomes(clean, "own", "unhealthy")
    clean.launch(reference, "never", "--no-healthcheck")
    clean.launch(reference, "mixed", "--health-interval", "100ms", "--health-cmd", "echo mine")
    assert becomes(clean, "mixed", "healthy")["log"][-1]["output"] == "mine"
    assert health(clean, "never") == {}


@pytest.mark.parametrize("action, policy", [("restart", "no"), ("kill", "no"), ("stop", "always"),
                                            ("kill", "always")])
def test_what_follows_from_being_unhealthy(busybox, action, policy):
    node, reference = busybox
    node.launch(reference, "sick", *FAST, "--health-retries", "2", "--health-cmd",
                COUNTED + "test ! -e /root/bad", "--health-on-failure", action, "--restart", policy,
                "--stop-timeout", "1", command=["sh", "-c", "rm -f /root/bad; exec sleep 1000000"])
    becomes(node, "sick", "healthy")
    first = node.instance("sick")["status"]
    inside(node, "sick", "touch /root/bad")
    if action == "restart" or policy == "always" and action == "kill":
        again = eventually(lambda: (lambda s: s["state"] == "running" and
                                    s["pid"] != first["pid"] and s)(
            node.instance("sick")["status"]), 15, "another run")
        assert again["restarts"] == 1
        becomes(node, "sick", "healthy")
        return
    status = eventually(lambda: (lambda s: s["state"] == "stopped" and s)(
        node.instance("sick")["status"]), 15, "its end")
    assert "health check failed 2 times" in status["error"] and status["exit_code"] == 137
    # It stays so, whatever the restart policy says; another one shows that time passes.
    node.launch(reference, "other", *FAST, "--health-cmd", COUNTED)
    checked(node, "other")
    assert node.instance("sick")["status"]["state"] == "stopped"
    # A person may start it again all the same.
    node.cli("start", "sick")
    becomes(node, "sick", "healthy")


def test_the_agents_end_changes_nothing(node):
    """kill -9 while checks run: no flapping, no lost count, and the schedule goes on."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.stop_supervision()
    node.launch(reference, "kept", "--insecure", *FAST, "--health-retries", "2",
                "--health-cmd", COUNTED + "test ! -e /root/bad")
    becomes(node, "kept", "healthy")
    link = follow(node, "kept")
    for _ in range(3):
        node.kill("agentd")
        node.start_missing()
        node.wait_ready()
    checked(node, "kept")
    inside(node, "kept", "touch /root/bad")
    assert set(states(link, "unhealthy")) == {"healthy", "unhealthy"}
    node.kill("agentd")
    node.kill("keeper")
    node.start_missing()
    node.wait_ready()
    assert health(node, "kept")["state"] == "unhealthy"
    inside(node, "kept", "rm /root/bad")
    assert "starting" not in states(link, "healthy")
    link.close()
    # No job and no file of a check stays behind.
    node.cli("delete", "--force", "kept")
    eventually(lambda: not list((node.run_folder / "keeper").glob("h-*")), 10, "no jobs of checks")


@pytest.mark.parametrize("alive", [True, False])
def test_what_the_agent_had_no_time_to_do_is_done_by_the_next(node, alive):
    """It dies after it has seen the last failure, before (or after) it could end the run."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.stop_supervision()
    node.launch(reference, "late", "--insecure", "--health-interval", "1h", "--health-cmd", "true",
                "--health-on-failure", "restart", "--stop-timeout", "0")
    becomes(node, "late", "healthy")
    first = node.instance("late")
    node.kill("agentd")
    path = node.run_folder / "instances" / first["meta"]["uid"] / "health.json"
    known = json.loads(path.read_text())
    known["health"].update(state="unhealthy", failing_streak=3)
    path.write_text(json.dumps({**known, "failing": True}))
    if not alive:
        os.kill(first["status"]["pid"], signal.SIGKILL)
    node.start_missing()
    node.wait_ready()
    again = eventually(lambda: (lambda it: it["state"] == "running" and
                                it["pid"] != first["status"]["pid"] and it)(
        node.instance("late")["status"]), 15, "another run")
    assert again["restarts"] == 1
    becomes(node, "late", "healthy")


def test_a_paused_instance_is_left_alone(busybox):
    node, reference = busybox
    for name in ("pause", "other"):
        node.launch(reference, name, *FAST, "--health-retries", "1", "--health-cmd", COUNTED)
        becomes(node, name, "healthy")
    node.cli("pause", "pause")
    revision = node.instance("pause")["meta"]["revision"]
    checked(node, "other")
    assert node.instance("pause")["meta"]["revision"] == revision
    assert health(node, "pause")["state"] == "healthy"
    node.cli("resume", "pause")
    checked(node, "pause", 1)
    assert health(node, "pause")["state"] == "healthy"


def test_an_action_needs_a_check(busybox):
    node, reference = busybox
    done = node.cli("launch", "--health-on-failure", "restart", reference, "none", code=1)
    assert "there is no check that could fail" in done.stderr


@pytest.mark.parametrize("options, words", [
    (["--health-http", "healthz"], "[PORT]/PATH"),
    (["--health-http", "99999/x"], "[PORT]/PATH"),
    (["--health-http", "80/a b"], "[PORT]/PATH"),
    (["--health-tcp", "0"], "--health-tcp"),
    (["--health-cmd", "x", "--health-tcp", "1"], "only one"),
    (["--health-cmd", "x", "--no-healthcheck"], "only one"),
    (["--health-interval", "soon"], "1m30s"),
    (["--health-interval", "1ms"], "100 ms"),
    (["--health-retries", "0"], "--health-retries"),
    (["--health-on-failure", "panic"], "restart"),
    (["--rm", "--health-on-failure", "restart"], "remove_on_exit"),
])
def test_what_cannot_be_is_said_in_one_line(busybox, options, words):
    node, reference = busybox
    done = node.cli("launch", *options, reference, "bad", code=None)
    assert done.returncode in (1, 2) and words in done.stderr, done.stderr
    assert node.api("GET", "/1.0/instances") == []


@pytest.mark.parametrize("check, words", [
    ({"type": "exec"}, "command"),
    ({"type": "http", "path": "/"}, "port"),
    ({"type": "tcp", "port": 80, "path": "/"}, "path"),
    ({"type": "http", "port": 80, "path": "/\r\nX: y"}, "path"),
    ({"type": "exec", "command": ["true"], "interval_ms": 1}, "interval_ms"),
    ({"type": "what"}, "type"),
    ({"type": "none", "timeout": 3}, "timeout"),
])
def test_the_api_refuses_the_same(busybox, check, words):
    node, reference = busybox
    status, answer = node.api("POST", "/1.0/instances", {"image": reference, "name": "bad",
                                                         "health": check}, raw=True)
    assert status == 400 and words in answer["error"], answer
