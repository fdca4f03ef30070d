"""How an instance is run: each option of `brume launch` is seen from the inside."""
import pwd

import images
import pytest
from node import eventually, user_of_control


def inside(node, name, script):
    """What a shell in the instance prints."""
    return node.out("exec", name, "--", "sh", "-c", script)


def caps(node, name, which="CapEff", pid=1):
    text = inside(node, name, f"grep {which}: /proc/{pid}/status")
    return int(text.split()[1], 16)


CAP_NET_ADMIN, CAP_CHOWN, CAP_SYS_ADMIN = 1 << 12, 1 << 0, 1 << 21


def refused(node, *args, code=2):
    """One line, the given exit code, and nothing was made."""
    before = node.api("GET", "/1.0/instances")
    done = node.cli("launch", *args, code=code)
    assert node.api("GET", "/1.0/instances") == before
    assert done.stdout == ""
    return done.stderr


def test_an_init_of_ours_is_process_one(busybox):
    node, reference = busybox
    node.launch(reference, "init", "--init", command=["sh", "-c", "sleep 1000000; exit 3"])
    assert inside(node, "init", "cat /proc/1/comm").strip() == "init"
    assert inside(node, "init", "ls /dev/init").strip() == "/dev/init"
    # An orphan becomes its child and does not stay a zombie.
    inside(node, "init", "(sh -c 'sleep 0.1; exit 0' &) ; true")
    eventually(lambda: "Z" not in inside(
        node, "init", "for p in /proc/[0-9]*; do sed -n 's/^State:.//p' $p/status; done"),
        10, "no zombie")
    # It is read-only, and none of the image's files.
    assert node.cli("exec", "init", "--", "sh", "-c", "echo x > /dev/init", code=None).returncode
    inside(node, "init", "kill -TERM $(pidof sleep)")
    eventually(lambda: node.instance("init")["status"]["state"] == "stopped", 10, "its end")
    assert node.instance("init")["status"]["exit_code"] == 3


def test_init_hands_signals_on_and_says_what_is_missing(busybox):
    node, reference = busybox
    node.launch(reference, "signals", "--init", "--stop-signal", "USR1", "--stop-timeout", "30",
                command=["sh", "-c", "trap 'exit 7' USR1; while :; do sleep 0.1; done"])
    eventually(lambda: int(inside(node, "signals", "grep SigCgt /proc/2/status").split()[1], 16)
               & 1 << 9, 10, "the trap")
    node.cli("stop", "signals")
    assert node.instance("signals")["status"]["exit_code"] == 7
    node.launch(reference, "missing", "--init", command=["/not/there"], code=None)
    eventually(lambda: node.instance("missing")["status"].get("exit_code") == 127, 10, "127")


def test_a_root_that_cannot_be_written(busybox):
    node, reference = busybox
    node.launch(reference, "fixed", "--read-only", "--tmpfs", "/tmp:size=1M,mode=1777,noexec")
    assert node.cli("exec", "fixed", "--", "touch", "/file", code=None).returncode
    assert node.cli("exec", "fixed", "--", "mount", "-o", "remount,rw", "/",
                    code=None).returncode
    assert inside(node, "fixed", "echo yes > /tmp/file; cat /tmp/file") == "yes\n"
    line = inside(node, "fixed", "grep ' /tmp ' /proc/mounts")
    assert "size=1024k" in line and "noexec" in line and "nosuid" in line, line
    assert node.cli("exec", "fixed", "--", "sh", "-c",
                    "dd if=/dev/zero of=/tmp/big bs=64k count=64", code=None).returncode


def test_mounts_of_memory_and_sizes(busybox):
    node, reference = busybox
    node.launch(reference, "memory", "--mount", "type=tmpfs,target=/cache,size=2M,mode=700",
                "--shm-size", "8M")
    assert "size=2048k" in inside(node, "memory", "grep ' /cache ' /proc/mounts")
    assert inside(node, "memory", "stat -c %a /cache").strip() == "700"
    assert "size=8192k" in inside(node, "memory", "grep ' /dev/shm ' /proc/mounts")
    node.launch(reference, "usual")
    assert "size=65536k" in inside(node, "usual", "grep ' /dev/shm ' /proc/mounts")


def test_capabilities_are_added_and_dropped(busybox):
    node, reference = busybox
    node.launch(reference, "usual")
    usual = caps(node, "usual")
    assert usual & CAP_CHOWN and not usual & CAP_NET_ADMIN
    node.launch(reference, "more", "--cap-add", "net_admin", "--cap-drop", "CAP_CHOWN")
    assert caps(node, "more") == (usual | CAP_NET_ADMIN) & ~CAP_CHOWN
    assert caps(node, "more", "CapBnd") == (usual | CAP_NET_ADMIN) & ~CAP_CHOWN
    # It is good for its own network, and exec has it too.
    node.cli("exec", "more", "--", "ip", "link", "add", "dummy9", "type", "bridge")
    node.launch(reference, "none", "--cap-drop", "ALL")
    assert caps(node, "none") == caps(node, "none", "CapBnd") == 0
    node.launch(reference, "one", "--cap-drop", "all", "--cap-add", "CHOWN")
    assert caps(node, "one") == CAP_CHOWN
    # Another user keeps what was asked for by name, and nothing else.
    node.launch(reference, "user", "--user", "1000", "--cap-add", "NET_ADMIN")
    assert caps(node, "user") == CAP_NET_ADMIN
    node.launch(reference, "all", "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN")
    everything = caps(node, "all")
    assert everything & CAP_NET_ADMIN and not everything & CAP_SYS_ADMIN


def test_privileged_needs_the_project_to_allow_it(busybox):
    node, reference = busybox
    for option in (["--privileged"], ["--seccomp", "unconfined"]):
        message = refused(node, reference, "strong", *option, code=1)
        assert "allow_privileged" in message and "default" in message
    node.cli("project", "set", "default", "allow_privileged", "true")
    try:
        node.launch(reference, "strong", "--privileged")
        assert caps(node, "strong") & CAP_SYS_ADMIN
        status = inside(node, "strong", "cat /proc/1/status")
        assert "Seccomp:\t0" in status and "NoNewPrivs:\t0" in status
        assert "/proc/kcore" not in inside(node, "strong", "cat /proc/mounts")
        # It is still root of its own user namespace only, and has no device of the node.
        assert inside(node, "strong", "cat /proc/self/uid_map").split()[1] != "0"
        assert inside(node, "strong", "ls /dev").split().count("loop0") == 0
        node.launch(reference, "unconfined", "--seccomp", "unconfined")
        assert "Seccomp:\t0" in inside(node, "unconfined", "cat /proc/1/status")
        assert not caps(node, "unconfined") & CAP_SYS_ADMIN
    finally:
        node.cli("project", "set", "default", "allow_privileged", "false")
    assert "allow_privileged" in refused(node, reference, "again", "--privileged", code=1)


def test_only_root_changes_a_project(busybox):
    node, _ = busybox
    user = pwd.getpwnam(user_of_control())
    done = node.run(["setpriv", "--reuid", user.pw_uid, "--regid", user.pw_gid, "--clear-groups",
                     node.build / "brume", "project", "set", "default", "allow_privileged",
                     "true"], check=False, env=node.environment())
    assert done.returncode == 1 and "only root" in done.stderr, done.stderr
    assert not node.json("project", "info", "default")["spec"].get("allow_privileged")
    assert "refused" in node.out("project", "list")
    for words in (["set", "default", "colour", "red"],
                  ["set", "default", "allow_privileged", "maybe"], ["set", "default"]):
        node.cli("project", *words, code=2)
    assert "nobody" in node.cli("project", "set", "nobody", "description", "x", code=1).stderr
    node.cli("project", "set", "default", "description", "ours")
    assert "ours" in node.out("project", "info", "default")


def test_sysctls_limits_and_name_servers(busybox):
    node, reference = busybox
    node.launch(reference, "tuned", "--sysctl", "net.core.somaxconn=77",
                "--sysctl", "kernel.msgmax=4096", "--ulimit", "nofile=300:400",
                "--ulimit", "core=0", "--ulimit", "stack=unlimited",
                "--dns", "192.0.2.53", "--hostname", "inner")
    assert inside(node, "tuned", "cat /proc/sys/net/core/somaxconn").strip() == "77"
    assert inside(node, "tuned", "cat /proc/sys/kernel/msgmax").strip() == "4096"
    limits = inside(node, "tuned", "cat /proc/1/limits")
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert rows["Max open files"] == ["300", "400"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max stack size"] == ["unlimited", "unlimited"]
    resolv = inside(node, "tuned", "cat /etc/resolv.conf")
    assert "nameserver 192.0.2.53" in resolv and resolv.count("nameserver") == 1
    assert inside(node, "tuned", "hostname").strip() == "inner"


def test_the_images_stop_signal_counts(clean):
    image = images.Image([images.busybox_layer(images.BUSYBOX)], {
        "Cmd": ["sh", "-c", "trap 'exit 9' QUIT; while :; do sleep 0.1; done"],
        "Env": [images.PATH_ENV], "StopSignal": "SIGQUIT"})
    reference = clean.registry.push(image, "quits:1")
    clean.launch(reference, "quits", "--insecure", "--stop-timeout", "30")
    eventually(lambda: int(inside(clean, "quits", "grep SigCgt /proc/1/status").split()[1], 16)
               & 1 << 2, 10, "the trap")
    clean.cli("stop", "quits")
    assert clean.instance("quits")["status"]["exit_code"] == 9


@pytest.mark.parametrize("options, words", [
    (["--cap-add", "NET_ADMN"], "NET_ADMIN"),
    (["--cap-add", "CHOWN", "--cap-drop", "CHOWN"], "CAP_CHOWN"),
    (["--ulimit", "files=3"], "nofile"),
    (["--ulimit", "nofile=9:3"], "soft"),
    (["--sysctl", "kernel.panic=1"], "whole node"),
    (["--sysctl", "net.core.somaxconn"], "net.ipv4.ip_forward=1"),
    (["--sysctl", "net.ipv4../../../kernel.panic=1"], "not the name"),
    (["--tmpfs", "relative"], "absolute"),
    (["--tmpfs", "/proc/x"], "/proc"),
    (["--tmpfs", "/a/../b"], ".."),
    (["--tmpfs", "/a:uid=3"], "uid"),
    (["--tmpfs", "/a", "--tmpfs", "/a"], "twice"),
    (["--mount", "type=volume,target=/x"], "bind"),
    (["--mount", "source=/a,target=/x"], "type="),
    (["-v", "data:/x"], "named volumes"),
    (["-v", "/a:/x:zz"], "zz"),
    (["--device", "/etc/passwd"], "/dev"),
    (["--device", "/dev/fuse:rwx"], "rwm"),
    (["--shm-size", "1"], "4096"),
    (["--seccomp", "weird"], "unconfined"),
    (["--dns", "localhost"], "IP"),
])
def test_what_cannot_be_is_said_in_one_line(busybox, options, words):
    node, reference = busybox
    message = refused(node, reference, "bad", *options)
    assert words in message and len(message.splitlines()) == 1, message


@pytest.mark.parametrize("member, words", [
    ({"cap_add": ["CAP_NOTHING"]}, "cap_add"),
    ({"mounts": [{"type": "bind", "source": "/a/../b", "target": "/x"}]}, "mounts[0].source"),
    ({"mounts": [{"type": "tmpfs", "target": "/"}]}, "mounts[0].target"),
    ({"mounts": [{"type": "tmpfs", "target": "/a", "extra": 1}]}, "extra"),
    ({"mounts": [{"type": "tmpfs", "target": f"/m{i}"} for i in range(65)]}, "64"),
    ({"devices": [{"source": "/dev/../etc"}]}, "devices[0]"),
    ({"ulimits": [{"name": "nofile", "soft": -2}]}, "ulimits[0]"),
    ({"sysctls": {"kernel.core_pattern": "|/bin/sh"}}, "sysctls"),
    ({"seccomp": "none"}, "seccomp"),
    ({"seccomp_profile": "default"}, "seccomp_profile"),
    ({"seccomp_profile": {"defaultAction": "SCMP_ACT_ALLOW"}, "privileged": True}, "privileged"),
    ({"seccomp_profile": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}},
     "listenerPath"),
    ({"seccomp_profile": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}}, "syscalls[0].action"),
    ({"seccomp_profile": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["x" * 70000], "action": "SCMP_ACT_ERRNO"}]}}, "65536"),
    ({"shm_size_bytes": 1}, "shm_size_bytes"),
])
def test_the_api_refuses_the_same(busybox, member, words):
    node, reference = busybox
    status, answer = node.api("POST", "/1.0/instances", {"image": reference, "name": "bad",
                                                         **member}, raw=True)
    assert status == 400 and words in answer["error"], answer
    assert node.api("GET", "/1.0/instances") == []


def test_an_init_gives_its_terminal_to_the_program(busybox):
    node, reference = busybox
    terminal = node.terminal("launch", "-it", "--init", reference, "tty", "--", "sh")
    terminal.type("tty; echo job-$((1+1))\n")
    terminal.expect("/dev/pts/")
    terminal.expect("job-2")
    # ^C ends what the shell runs, not the shell, and the shell's code is the instance's.
    terminal.type("sleep 1000\n")
    eventually(lambda: "sleep 1000" in inside(node, "tty", "ps"), 10, "the sleep")
    terminal.type("\x03")
    terminal.type("echo still-$((2+2)); exit 5\n")
    terminal.expect("still-4")
    terminal.finish()
    assert node.instance("tty")["status"]["exit_code"] == 5
