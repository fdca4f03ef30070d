"""brume-oci: `process` of config.json, each property seen from inside of the container."""
import json
import os
import pathlib
import socket
import subprocess

import oci_bundle
import pytest

LIMITS = ["AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE",
          "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"]
# In the order of /proc/PID/limits.
LIMIT_LINES = {"AS": "Max address space", "CORE": "Max core file size", "CPU": "Max cpu time",
               "DATA": "Max data size", "FSIZE": "Max file size", "LOCKS": "Max file locks",
               "MEMLOCK": "Max locked memory", "MSGQUEUE": "Max msgqueue size",
               "NICE": "Max nice priority", "NOFILE": "Max open files", "NPROC": "Max processes",
               "RSS": "Max resident set", "RTPRIO": "Max realtime priority",
               "RTTIME": "Max realtime timeout", "SIGPENDING": "Max pending signals",
               "STACK": "Max stack size"}


def caps(out):
    return {line[:6]: int(line.split()[1], 16) for line in out.splitlines()
            if line.startswith("Cap")}


def test_every_limit(bundle):
    import resource
    wanted = {}
    for name in LIMITS:
        hard = resource.prlimit(0, getattr(resource, "RLIMIT_" + name, 10))[1] \
            if hasattr(resource, "RLIMIT_" + name) else -1
        value = {"AS": 1 << 33, "DATA": 1 << 33, "STACK": 1 << 23, "RSS": 1 << 33,
                 "NPROC": 4096, "LOCKS": 77}.get(name, 64)
        wanted[name] = value if hard < 0 else min(value, hard)
    bundle.process["rlimits"] = [{"type": "RLIMIT_" + name, "soft": value, "hard": value}
                                 for name, value in wanted.items()]
    out = bundle.sh("cat /proc/self/limits")
    for name, value in wanted.items():
        line = next(line for line in out.splitlines() if line.startswith(LIMIT_LINES[name]))
        assert line[26:].split()[:2] == [str(value), str(value)], line


def test_args_env_and_path(bundle):
    (bundle.rootfs / "opt").mkdir()
    (bundle.rootfs / "opt/tool").write_text("#!/bin/sh\necho \"$0|$1|$A|$B|$HOME|$#\"\n")
    (bundle.rootfs / "opt/tool").chmod(0o755)
    bundle.process["env"] = ["PATH=/nowhere:/opt:/bin", "A=1", "A=2", "B=x=y", "HOME=/h"]
    assert bundle.run("tool", "a b", "").stdout == "/opt/tool|a b|2|x=y|/h|2\n"
    del bundle.process["env"]
    assert bundle.run("sh", "-c", "echo $PATH$A; env | grep -c =").returncode == 0


def test_cwd(bundle):
    bundle.process["cwd"] = "/etc"
    assert bundle.sh("pwd") == "/etc\n"


def test_default_umask_is_the_fields(bundle):
    """The specification leaves the caller's; the other runtimes, and what relies on them, 0022."""
    old = os.umask(0o077)
    try:
        assert bundle.sh("umask") == "0022\n"
        bundle.process["user"]["umask"] = 0o70
        assert bundle.sh("umask") == "0070\n"
    finally:
        os.umask(old)


def test_five_sets_of_capabilities(bundle):
    some = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"]
    bundle.process["capabilities"] = {
        "bounding": some, "permitted": some[:3], "effective": some[:2], "inheritable": some[1:3],
        "ambient": some[1:2]}
    # Without new privileges root's programs keep what is permitted; a user's what is ambient.
    for uid, effective in ((0, 1 | 1 << 5 | 1 << 13), (1000, 1 << 5)):
        bundle.process["user"] = {"uid": uid, "gid": uid}
        seen = caps(bundle.sh("cat /proc/self/status"))
        assert seen["CapBnd"] == 1 | 1 << 5 | 1 << 13 | 1 << 18
        assert seen["CapInh"] == 1 << 5 | 1 << 13
        assert seen["CapAmb"] == 1 << 5
        assert seen["CapEff"] == seen["CapPrm"] == effective, (uid, seen)


def test_root_without_capabilities_in_the_bounding_set(bundle):
    bundle.process["capabilities"] = {}
    seen = caps(bundle.sh("cat /proc/self/status; chown 5 /etc/passwd 2>/dev/null && echo chowned"
                          " || true"))
    assert set(seen.values()) == {0}


def test_what_cannot_be_granted_is_a_warning(bundle):
    """The specification: logged as a warning, and no failure."""
    bundle.process["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_NO_SUCH"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_NET_RAW"],
        "ambient": ["CAP_KILL"]}
    done = bundle.run("cat", "/proc/self/status")
    seen = caps(done.stdout)
    assert done.returncode == 0 and seen["CapBnd"] == seen["CapEff"] == 1 << 5
    assert seen["CapAmb"] == seen["CapInh"] == 0
    for word in ("bounding: left out \"CAP_NO_SUCH\"", "effective: left out CAP_CHOWN",
                 "inheritable: left out CAP_NET_RAW", "ambient: left out CAP_KILL"):
        assert word in done.stderr, done.stderr


def test_capabilities_that_the_runtime_has_not(bundle):
    bundle.process["capabilities"] = {name: ["CAP_KILL", "CAP_SYS_TIME"] for name in
                                      ("bounding", "permitted", "effective")}
    bundle.process["args"] = ["cat", "/proc/self/status"]
    bundle.write()
    done = subprocess.run(["capsh", "--drop=cap_sys_time", "--", "-c", 'exec "$0" "$@"',
                           *bundle.command("run", bundle.id)], text=True, capture_output=True,
                          cwd=bundle.folder / "bundle")
    assert done.returncode == 0 and caps(done.stdout)["CapEff"] == 1 << 5, done.stderr
    assert "left out CAP_SYS_TIME" in done.stderr


def test_no_new_privileges(bundle):
    oci_bundle.with_python(bundle)
    (bundle.rootfs / "bin/setuid").write_bytes(pathlib.Path("/usr/bin/id").read_bytes())
    (bundle.rootfs / "bin/setuid").chmod(0o4755)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    for value, uid in ((True, 1000), (False, 0)):
        bundle.process["noNewPrivileges"] = value
        assert bundle.sh("grep NoNewPrivs /proc/self/status; setuid -u").split() == [
            "NoNewPrivs:", str(int(value)), str(uid)]


def test_oom_score_adj(bundle):
    own = pathlib.Path("/proc/self/oom_score_adj").read_text()
    assert bundle.sh("cat /proc/self/oom_score_adj") == own
    for value in (0, 1000, 17):
        bundle.process["oomScoreAdj"] = value
        assert bundle.sh("cat /proc/self/oom_score_adj") == f"{value}\n"


def scheduling(bundle):
    """Policy, priority, nice value, flag of the program."""
    oci_bundle.with_python(bundle)
    script = ("import os, struct, ctypes\n"
              "buffer = ctypes.create_string_buffer(56)\n"
              "r = ctypes.CDLL(None).syscall(315, 0, buffer, 56, 0)\n"
              "print(*struct.unpack('IIQiIQQQ', buffer.raw[:48]))")
    return script


@pytest.mark.parametrize("policy,number,more", [
    ("SCHED_OTHER", 0, {"nice": 7}), ("SCHED_BATCH", 3, {"nice": -3}), ("SCHED_IDLE", 5, {}),
    ("SCHED_FIFO", 1, {"priority": 5}), ("SCHED_RR", 2, {"priority": 6}),
    ("SCHED_DEADLINE", 6, {"runtime": 10000000, "deadline": 20000000, "period": 30000000,
                           "flags": ["SCHED_FLAG_RESET_ON_FORK"]})])
def test_every_policy(bundle, policy, number, more):
    script = scheduling(bundle)
    bundle.process["scheduler"] = {"policy": policy, **more}
    done = oci_bundle.python(bundle, script)
    if done.returncode and policy in ("SCHED_FIFO", "SCHED_RR", "SCHED_DEADLINE"):
        # A group of version 1 has no real-time budget unless it is given one.
        assert "process.scheduler: Operation not permitted" in done.stderr
        pytest.skip("this kernel refuses real-time policies here")
    assert done.returncode == 0, done.stderr
    _, got, flags, nice, priority, runtime, deadline, period = map(int, done.stdout.split())
    assert got == number
    # The kernel leaves an idle one the value that it has.
    assert nice == (os.nice(0) if policy == "SCHED_IDLE" else more.get("nice", 0))
    assert priority == more.get("priority", 0)
    if policy == "SCHED_DEADLINE":
        assert (runtime, deadline, period) == (10000000, 20000000, 30000000) and flags & 1


def test_scheduler_flags(bundle):
    script = scheduling(bundle)
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 1,
                                   "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    done = oci_bundle.python(bundle, script)
    assert int(done.stdout.split()[2]) & 1, done.stderr


@pytest.mark.parametrize("name,said", [("IOPRIO_CLASS_RT", "realtime: prio 3"),
                                       ("IOPRIO_CLASS_BE", "best-effort: prio 3"),
                                       ("IOPRIO_CLASS_IDLE", "idle")])
def test_io_priority(bundle, name, said):
    bundle.process["ioPriority"] = {"class": name, "priority": 3}
    assert said in bundle.sh("ionice -p $$")


def cpus(text):
    return next(line.split()[1] for line in text.splitlines()
                if line.startswith("Cpus_allowed_list"))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_exec_cpu_affinity(bundle):
    """Of exec only: init runs where the control group lets it."""
    bundle.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
    bundle.start("sleep", "1000")
    first = cpus(pathlib.Path(f"/proc/{bundle.state()['pid']}/status").read_text())
    assert first not in ("0", "1")
    assert cpus(bundle.exec(bundle.id, "cat", "/proc/self/status").stdout) == "1"
    document = bundle.folder / "process.json"
    base = {"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"]}
    for affinity, seen in (({"initial": "1", "final": "0"}, "0"), ({"final": "0-1"}, "0-1"),
                           ({}, first)):
        document.write_text(json.dumps({**base, "execCPUAffinity": affinity}))
        assert cpus(bundle.exec("--process", document, bundle.id).stdout) == seen
    document.write_text(json.dumps({**base, "execCPUAffinity": {"final": "999"}}))
    done = bundle.exec("--process", document, bundle.id)
    assert done.returncode == 1 and "process.execCPUAffinity.final" in done.stderr


def test_sockets_that_are_handed_in(bundle):
    """systemd's protocol: the sockets come after stdio, then those of --preserve-fds."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")
    read, write = os.pipe()
    bundle.process["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID $$; readlink "
                              "/proc/self/fd/3 | cut -d: -f1; echo through >&4; ls /proc/self/fd"]
    bundle.write()
    words = bundle.command("run", "--preserve-fds", 1, bundle.id)
    for pid, seen in (("$$", True), ("1", False)):
        done = subprocess.run(
            ["bash", "-c", f"export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$@\" "
             f"3<&{listener.fileno()} 4>&{write}", "sh", *words], text=True, capture_output=True,
            pass_fds=[listener.fileno(), write], cwd=bundle.folder / "bundle",
            stdin=subprocess.DEVNULL)
        lines = done.stdout.split("\n")
        if seen:
            assert lines[0] == "1 1 1" and lines[1] == "socket", done
            assert os.read(read, 100) == b"through\n"
            assert done.stdout.split()[4:] == ["0", "1", "2", "3", "4", "5"], done
        else:
            # Not meant for us: only the first one is preserved, and nothing is said of it.
            assert lines[0] == "1" and "Bad file descriptor" in done.stderr, done
    os.close(read)
    os.close(write)


def test_console_size_without_a_terminal_is_ignored(bundle):
    bundle.process["consoleSize"] = {"height": 0, "width": "wide"}
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("change,said", [
    ({"user": {"username": "x"}}, "process.user.username"),
    ({"commandLine": "cmd /c dir"}, "process.commandLine"),
    ({"selinuxLabel": "a:b:c"}, "SELinux is not enabled"),
    ({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1}]}, "rlimits[0].hard: is missing"),
    ({"ioPriority": {"class": "IOPRIO_CLASS_BE"}}, "process.ioPriority.priority: is missing"),
    ({"execCPUAffinity": {"final": "3-1"}}, "process.execCPUAffinity.final"),
    ({"scheduler": {"policy": "SCHED_FIFO", "priority": 0}}, "process.scheduler"),
    ({"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}, "process.scheduler.nice"),
])
def test_refused(bundle, change, said):
    if "selinuxLabel" in change and pathlib.Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("this kernel has SELinux")
    bundle.process.update(change)
    done = bundle.run("true")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []
