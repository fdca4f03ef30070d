"""The same image as a container and as a virtual machine, on a whole node.

A boot takes seconds (many under emulation), so one machine serves most of the tests.
"""
import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request

import images
import node as node_module
import pytest
from conftest import need
from node import eventually
from test_node_update import in_force
from vm_kernel import give_kernel

pytestmark = pytest.mark.slow
BOOT = 240  # seconds: emulated, on a machine with other work
Vm = collections.namedtuple("Vm", "node reference web")


@pytest.fixture(scope="module")
def vms(shared_node):
    """A node with a kernel and two images: (node, busybox, web)."""
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(shared_node)
    found = []
    for image, name in ((images.busybox(), "busybox:1"), (images.web(), "web:1")):
        found.append(shared_node.registry.push(image, name))
        shared_node.cli("image", "pull", "--insecure", found[-1])
    yield Vm(shared_node, *found)
    shared_node.check_clean()


@pytest.fixture(scope="module")
def web(vms):
    """A machine that serves a page, and is started again whenever it ends: the node."""
    vms.node.launch(vms.web, "web", "--vm", "-p", "8080:80", "-m", "256M", "--cpus", "2",
                    "--restart", "always", "-e", "COLOUR=blue", "-l", "tier=front", timeout=BOOT)
    return vms.node


def page(url):
    def attempt():
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
        return None
    return eventually(attempt, 20, f"a page from {url}")


def monitor_of(node, name):
    return node.json("info", name)["status"]["pid"]


# -- what it is like inside ----------------------------------------------------------------------

SCRIPT = """
id -u; id -g; pwd; echo $COLOUR; echo $HOME; hostname; ulimit -n; cat /proc/sys/net/core/somaxconn
grep -c . /etc/resolv.conf; grep ^nameserver /etc/resolv.conf; touch /root/x 2>&1; stat -c %a /cache
df -k /cache | tail -1 | awk '{print $2}'; ls /; echo told >&2; exit 3
"""
OPTIONS = ["-e", "COLOUR=red", "-u", "web:staff", "-w", "/bin", "--hostname", "inside", "--ulimit",
           "nofile=300:400", "--sysctl", "net.core.somaxconn=77", "--dns", "192.0.2.53",
           "--read-only", "--tmpfs", "/cache:size=4M,mode=700", "--init"]


def test_it_is_the_same_inside(vms):
    node = vms.node
    container, machine = (
        node.cli("launch", "-a", "--rm", *OPTIONS, *kind, vms.reference, "--", "sh", "-c", SCRIPT,
                 code=3, timeout=BOOT) for kind in ([], ["--vm"]))
    assert machine.stdout == container.stdout
    assert machine.stderr == container.stderr == "told\n"


def test_a_command_with_input(vms):
    text = "".join(f"line {i}\n" for i in range(5000))
    done = vms.node.cli("launch", "-i", "--rm", "--vm", vms.reference, "--", "sh", "-c",
                        "cat; exit 5", input=text, code=5, timeout=BOOT)
    assert done.stdout == text


def test_a_terminal(vms):
    terminal = vms.node.terminal("launch", "-it", "--rm", "--vm", vms.reference, "shell", "--",
                                 "sh")
    terminal.expect("/ # ", timeout=BOOT)
    terminal.type("stty size; tty; echo $TERM\r")
    terminal.expect("24 80")
    terminal.expect("xterm")
    terminal.resize(120, 40)
    terminal.type("sleep 1; stty size\r")
    terminal.expect("40 120")
    terminal.type("exit 7\r")
    assert terminal.finish() == 7


def test_a_program_that_is_not_there(vms):
    for kind in ([], ["--vm"]):
        done = vms.node.cli("launch", "-a", "--rm", *kind, vms.reference, "wrong", "--", "/no/such/program",
                            code=127, timeout=BOOT)
        assert "/no/such/program" in done.stderr
        assert vms.node.api("GET", "/1.0/instances/wrong", raw=True)[0] == 404
    done = vms.node.cli("launch", "-a", "--rm", "--vm", vms.reference, "wrong", "--", "/etc", code=126,
                        timeout=BOOT)
    assert "/etc" in done.stderr


# -- one that serves -----------------------------------------------------------------------------

def test_it_serves_a_page(web, vms):
    assert "It works" in page(f"http://{node_module.NODE4}:8080/")
    assert "It works" in page(f"http://[{node_module.NODE6}]:8080/")
    web.launch(vms.reference, "asks")
    assert "It works" in web.out("exec", "asks", "--", "wget", "-qO-", "http://web/")
    web.cli("delete", "--force", "asks")
    eventually(lambda: "response:200" in web.cli("logs", "web").stderr, 10, "a line in the log")


def test_what_people_see_of_it(web):
    listing = web.out("list")
    assert re.search(r"\bweb\s+vm\s+running\b", listing), listing
    info = web.json("info", "web")
    assert info["spec"]["type"] == "vm"
    machine = info["status"]["machine"]
    assert machine["backend"] in ("qemu", "brume-vmm") and machine["why"]
    assert machine["cpus"] == 2 and machine["memory_bytes"] == 256 << 20
    assert machine["kernel"]
    text = web.out("info", "web")
    assert re.search(r"^machine +qemu: |^machine +brume-vmm: ", text, re.M), text
    top = web.json("top", "web")
    assert any("httpd" in p["command"] for p in top)
    assert not any("host_pid" in p for p in top)
    assert "httpd" in web.out("top", "web")
    usage = web.api("GET", "/1.0/instances/web/stats")
    assert usage["cpu"]["usage_ns"] > 0 and usage["memory"]["usage_bytes"] > 0
    assert usage["network"]["tx_bytes"] > 0
    assert 0 < usage["memory"]["guest_usage_bytes"] < usage["memory"]["guest_total_bytes"] <= 256 << 20
    counted = web.json("stats", "--machine", "web")
    disks = counted["devices" if machine["backend"] == "brume-vmm" else "disks"]
    assert any(disk["read_bytes"] > 1 << 16 for disk in disks)
    assert len(counted["cpus"]) == 2 and counted["balloon"]["memory_bytes"] == 256 << 20
    if machine["backend"] == "qemu":
        assert counted["accelerator"] in ("kvm", "tcg") and all(cpu["thread_ns"] > 0 for cpu in counted["cpus"])
        # The translator counts no exits, and nobody pretends.
        assert ("kvm_cpus" in counted) == (counted["accelerator"] == "kvm")
    assert re.search(r"^(disks|devices)\.disk0\.read_bytes +\d+$", web.out("stats", "--machine", "web"), re.M)
    assert "name of one instance" in web.cli("stats", "--machine", code=2).stderr


def test_its_limits_are_the_guests(web):
    assert web.out("exec", "web", "--", "nproc").strip() == "2"
    total = int(web.out("exec", "web", "--", "sh", "-c", "free -k | awk '/Mem/{print $2}'"))
    assert 180 << 10 < total <= 256 << 10


def test_its_limits_change_while_it_runs(web):
    def memory():
        return web.api("GET", "/1.0/instances/web/stats")["memory"]

    def guest():
        return web.json("stats", "--machine", "web")["balloon"]["guest"]
    before = web.json("info", "web")["status"]
    done = web.cli("update", "web", "--cpus", "0.75", "-m", "200M")
    assert done.stdout == "web: updated\n" and done.stderr == ""
    assert in_force(web, "web")[0] == 0.75
    eventually(lambda: memory()["balloon_bytes"] == 56 << 20, BOOT, "the balloon is as large as asked")
    total = int(web.out("exec", "web", "--", "sh", "-c", "free -k | awk '/Mem/{print $2}'"))
    assert total <= 200 << 10
    assert "56.0 MiB" in web.out("stats", "--no-stream", "-w", "web")
    # Not less than its guest uses now, and then nothing changes.
    eventually(lambda: "available_bytes" in guest(), 60, "the guest tells what it uses")
    done = web.cli("update", "web", "--cpus", "1", "-m", "64M", code=1)
    assert re.search(r"memory: it uses \d+\.\d MiB now, more than a limit of 64\.0 MiB", done.stderr), done.stderr
    assert in_force(web, "web")[0] == 0.75 and memory()["balloon_bytes"] == 56 << 20
    # The next agent knows it.
    web.kill("agentd")
    web.wait_ready()
    it = web.wait_instance("web", lambda it: it["status"].get("state") == "running")
    assert it["spec"]["limits"] == {"cpus": 0.75, "memory_bytes": 200 << 20} and memory()["balloon_bytes"] == 56 << 20
    assert it["status"]["pid"] == before["pid"] and it["status"]["machine"]["memory_bytes"] == 256 << 20
    # More than it was started with comes with its next start; what it can have, it has now.
    done = web.cli("update", "web", "--cpus", "3", "-m", "300M", "--pids", "500")
    later = "300 MiB of memory (256 now), 3 processors (2 now), 500 processes (no limit now)"
    assert done.stderr == f"web: comes with its next start: {later}\n"
    assert web.json("info", "web")["status"]["machine"]["pending"] == later and later in web.out("info", "web")
    assert in_force(web, "web")[0] == 3
    eventually(lambda: memory()["balloon_bytes"] == 0, BOOT, "the balloon is empty")
    web.cli("pause", "web")
    try:
        done = web.cli("update", "web", "-m", "128M", code=1)
        assert "memory: the instance is paused; resume it first" in done.stderr
        web.cli("update", "web", "--cpus", "2")
        assert in_force(web, "web")[0] == 2
    finally:
        web.cli("resume", "web")
    assert web.json("info", "web")["spec"]["limits"] == {"cpus": 2, "memory_bytes": 300 << 20, "pids": 500}


def test_exec(web):
    done = web.cli("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 9", code=9)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = web.cli("exec", "-i", "-u", "33:44", "-w", "/tmp", "-e", "A=b", "web", "--", "sh", "-c",
                   "id -u; id -g; pwd; echo $A $COLOUR; cat", input="in\n")
    assert done.stdout == "33\n44\n/tmp\nb blue\nin\n"
    assert "nosuch" in web.cli("exec", "web", "--", "nosuch", code=127).stderr
    much = web.cli("exec", "web", "--", "sh", "-c", "yes 0123456789 | head -c 3000000")
    assert len(much.stdout) == 3000000
    terminal = web.terminal("exec", "-it", "web", "--", "sh")
    terminal.type("stty size; echo $((40 + 2))-ready\r")
    terminal.expect("24 80")
    terminal.expect("42-ready")
    terminal.resize(100, 30)
    terminal.type("sleep 1; stty size; exit 4\r")
    terminal.expect("30 100")
    assert terminal.finish() == 4


def test_files(web, scratch):
    (scratch / "tree").mkdir()
    (scratch / "tree" / "big").write_bytes(os.urandom(2 << 20))
    (scratch / "tree" / "link").symlink_to("big")
    web.cli("cp", scratch / "tree", "web:/root")
    sums = web.out("exec", "web", "--", "sh", "-c", "cd /root/tree && md5sum big && readlink link")
    assert sums.split()[0] == subprocess.run(["md5sum", scratch / "tree" / "big"], text=True,
                                             capture_output=True).stdout.split()[0]
    assert sums.split()[-1] == "big"
    web.cli("cp", "web:/root/tree/big", scratch / "back")
    assert (scratch / "back").read_bytes() == (scratch / "tree" / "big").read_bytes()
    done = web.cli("cp", "web:/no/such", scratch / "x", code=1)
    assert "/no/such" in done.stderr
    for words in (["diff", "web"], ["commit", "web", "new:1"]):
        assert "virtual machine" in web.cli(*words, code=1).stderr


def test_pause_and_rename(web, vms):
    web.cli("pause", "web")
    assert web.cli("exec", "web", "--", "true", code=1).stderr
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{node_module.NODE4}:8080/", timeout=1)
    web.cli("resume", "web")
    assert "It works" in page(f"http://{node_module.NODE4}:8080/")
    web.cli("rename", "web", "other")
    try:
        assert web.out("exec", "other", "--", "nslookup", "other.brume.internal", "10.90.0.1")
    finally:
        web.cli("rename", "other", "web")


def test_daemons_die_and_it_does_not_notice(web):
    pid = monitor_of(web, "web")
    # Something is on its way when they die.
    busy = web.popen([web.build / "brume", "exec", "web", "--", "yes"], env=web.environment(),
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in ("agentd", "brumed", "keeper", "agentd"):
        assert web.kill(name)
        web.wait_ready()
        assert web.out("exec", "web", "--", "echo", name, timeout=60) == name + "\n"
    busy.kill()
    busy.wait()
    assert monitor_of(web, "web") == pid
    assert "It works" in page(f"http://{node_module.NODE4}:8080/")


def test_its_monitor_is_killed(web):
    import websocket
    web.cli("exec", "web", "--", "sh", "-c", "echo kept > /root/kept; sync")
    before = web.json("info", "web")["status"]
    stream = web.websocket("/1.0/events?kind=instance&name=web", timeout=60)
    try:
        os.kill(before["pid"], signal.SIGKILL)
        # The next start, a moment later, forgets why: all that is told until it runs again.
        seen, until = [], time.monotonic() + BOOT
        while time.monotonic() < until and not (seen and seen[-1]["state"] == "running" and
                                                seen[-1].get("pid") != before["pid"]):
            opcode, data = stream.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_TEXT:
                seen.append(json.loads(data)["resource"]["status"])
    finally:
        stream.close()
    errors = [status["error"] for status in seen if status.get("error")]
    assert errors, [(status["state"], status.get("restarts")) for status in seen]
    assert "monitor was killed" in errors[0] and "console said last" in errors[0]
    it = web.wait_instance("web", lambda i: i["status"]["state"] == "running" and
                           i["status"].get("pid") != before["pid"], timeout=BOOT)
    assert it["status"]["restarts"] == before.get("restarts", 0) + 1
    # The limits that were waiting for a start.
    machine = it["status"]["machine"]
    assert (machine["memory_bytes"], machine["pids"]) == (300 << 20, 500) and "pending" not in machine
    assert web.out("exec", "web", "--", "cat", "/root/kept") == "kept\n"
    assert "It works" in page(f"http://{node_module.NODE4}:8080/")


def test_stop_start_and_delete(web):
    web.cli("exec", "web", "--", "sh", "-c", "echo unsynced > /root/late")
    web.cli("stop", "-t", "1", "web", timeout=60)  # httpd is process 1 and knows no TERM
    status = web.json("info", "web")["status"]
    assert (status["state"], status["exit_code"]) == ("stopped", 137)
    uid = web.json("info", "web")["spec"]["ports"][0]["uid"]
    assert f"{web.prefix}v{uid}"[:15] not in web.links()
    assert "while it runs" in web.cli("cp", "web:/root/late", "-", code=1).stderr
    web.cli("start", "web", timeout=BOOT)
    assert web.out("exec", "web", "--", "cat", "/root/late") == "unsynced\n"
    web.cli("delete", "--force", "web")
    web.check_clean()


# -- what cannot be ------------------------------------------------------------------------------

@pytest.mark.parametrize("options, words", [
    (["--privileged"], "--privileged: only goes with containers"),
    (["--device", "/dev/fuse"], "--device: only goes with containers"),
    (["-v", "/srv:/srv"], "brume cp"),
    (["-m", "16M"], "--memory: a virtual machine needs"),
    (["--cpus", "65"], "64 processors"),
    (["--disk", "1M"], "--disk 1M: must be from 64M"),
    (["--kernel", "../x"], "--kernel"),
])
def test_what_does_not_go_with_a_machine(vms, options, words):
    done = vms.node.cli("launch", "--vm", *options, vms.reference, "no", code=2)
    assert words in done.stderr and len(done.stderr.strip().splitlines()) <= 2


def test_what_does_not_go_with_a_container(vms):
    done = vms.node.cli("launch", "--emulate", vms.reference, "no", code=2)
    assert "--emulate: only goes with type \"vm\"" in done.stderr
    status, answer = vms.node.api("POST", "/1.0/instances", {
        "image": vms.reference, "name": "no", "kernel": "x"}, raw=True)
    assert status == 400 and "kernel" in answer["error"]


@pytest.mark.parametrize("options, words", [
    (["-m", "900T"], "more than the node has"),
    (["--kernel", "nosuch"], "no kernel nosuch"),
])
def test_a_launch_that_cannot_be(vms, options, words):
    done = vms.node.cli("launch", "--vm", *options, vms.reference, "no", code=1)
    assert words in done.stderr
    assert vms.node.api("GET", "/1.0/instances/no", raw=True)[0] == 404


def test_an_image_of_another_architecture(vms):
    image = images.Image([images.busybox_layer(images.BUSYBOX)], {"Cmd": ["true"]},
                         architecture="arm64")
    reference = vms.node.registry.push(image, "far:1")
    vms.node.cli("image", "pull", "--insecure", "--platform", "linux/arm64", reference)
    done = vms.node.cli("launch", "--vm", reference, "no", code=1)
    assert "is for arm64 and this node is not: --emulate runs it" in done.stderr
    assert vms.node.api("GET", "/1.0/instances/no", raw=True)[0] == 404
    image = images.Image([images.Layer().file("x")], {"Cmd": ["true"]}, architecture="s390x")
    reference = vms.node.registry.push(image, "stranger:1")
    for options in ([], ["--emulate"]):
        done = vms.node.cli("launch", "--vm", *options, "--insecure", "--platform", "linux/s390x", reference, "no",
                            code=1)
        assert "s390x: no such machine; there are amd64 and arm64" in done.stderr


def test_an_image_that_does_not_say_for_what_it_is(vms):
    image = images.Image([images.busybox_layer(images.BUSYBOX)], {"Env": [images.PATH_ENV]}, architecture="")
    reference = vms.node.registry.push(image, "silent:1")
    done = vms.node.cli("launch", "-a", "--rm", "--vm", "--insecure", reference, "--", "echo", "fits", timeout=BOOT)
    assert done.stdout == "fits\n"
