"""brume-oci: attacks on the runtime's own process; docs/design/0006-seatbelts.md numbers them."""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import termios

import oci_bundle
import pytest
from node import eventually

SYS_PTRACE = "CAP_SYS_PTRACE"


# What changes the whole machine for a moment is tried where that is nobody else's.
in_the_lab = pytest.mark.skipif("LAB_KERNEL" not in os.environ, reason="changes the machine: lab only")


def grant(bundle, *caps):
    for names in bundle.process["capabilities"].values():
        names += caps


def spy(bundle, *words):
    """A hostile program in the container, with its output."""
    return subprocess.Popen(bundle.command("exec", bundle.id, "hostile", *map(str, words)),
                            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def seen(process):
    out = process.communicate(timeout=120)[0]
    return [line for line in out.splitlines() if line and line.split()[0].isupper()], out


@pytest.mark.parametrize("interpreter", ["/proc/self/exe", "/proc/self/exe state"])
def test_the_runtimes_file_is_not_written(armed, interpreter):
    """S1, CVE-2019-5736: the worst container there is, the host's root with every capability."""
    # A copy, so that no process but the attacked ones keeps it from being written.
    program = armed.folder / "brume-oci"
    shutil.copy(armed.runtime, program)
    armed.runtime = str(program)
    before = program.read_bytes(), program.stat().st_mtime_ns
    del armed.process["capabilities"]
    armed.process["noNewPrivileges"] = False
    (armed.rootfs / "bin/evil").write_text(f"#!{interpreter}\n")
    (armed.rootfs / "bin/evil").chmod(0o755)
    armed.start("hostile", "exe", "4")
    for _ in range(300):
        armed.exec(armed.id, "/bin/evil")
        armed.exec(armed.id, "true")
        # Between two of ours nothing runs the program, and it can be written, if it can.
        if armed.output().count("seen") >= 4:
            break
    eventually(lambda: armed.state()["status"] == "stopped", 20, "the end of the attack")
    out = armed.output()
    assert out.count("seen") >= 4, "the attack saw no process to attack"
    assert [line for line in out.splitlines() if line.split()[0].isupper()] == [], out
    assert (program.read_bytes(), program.stat().st_mtime_ns) == before


def test_exec_shows_nothing_of_the_host(armed):
    """S2, CVE-2016-9962: who may trace everybody in its container looks at what enters it."""
    grant(armed, SYS_PTRACE)
    marker = armed.folder / "marker"
    marker.write_text("the host's")
    armed.start("sleep", "1000")
    watcher = spy(armed, "peek", 3000, marker)
    assert watcher.stdout.readline().startswith("ready")
    while watcher.poll() is None:
        armed.exec(armed.id, "true")
    assert seen(watcher)[0] == []


@contextlib.contextmanager
def setting(path, value):
    """A value of the whole machine, for the length of a block."""
    path = pathlib.Path(path)
    before = path.read_text()
    path.write_text(str(value))
    try:
        yield
    finally:
        path.write_text(before)


@pytest.mark.parametrize("dumpable", [None, pytest.param(1, marks=in_the_lab)])
def test_exec_cannot_be_looked_into(armed_mapped, dumpable):
    """S2 in a user namespace: no way in, whatever its root may do there.

    With fs.suid_dumpable = 1 the kernel makes a process that changes its user one that may be
    traced; otherwise it keeps this root out by itself."""
    del armed_mapped.process["capabilities"]
    armed_mapped.linux["namespaces"].append({"type": "time"})
    armed_mapped.start("sleep", "1000")
    with contextlib.ExitStack() as stack:
        if dumpable is not None:
            stack.enter_context(setting("/proc/sys/fs/suid_dumpable", dumpable))
        watcher = spy(armed_mapped, "enter", 3000)
        assert watcher.stdout.readline().startswith("ready")
        while watcher.poll() is None:
            armed_mapped.exec(armed_mapped.id, "true")
        assert seen(watcher)[0] == []


def open_folders(count):
    return [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(count)]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_descriptors_of_the_caller_do_not_come_in(bundle, verb):
    """S3, CVE-2024-21626: folders of the host that the caller, or the runtime itself, has open."""
    script = "for f in /proc/self/fd/*; do readlink $f; done; true"
    fds = open_folders(20)
    try:
        if verb == "run":
            done = bundle.run("sh", "-c", script, pass_fds=fds)
        else:
            bundle.start("sleep", "1000")
            done = bundle.exec(bundle.id, "sh", "-c", script, pass_fds=fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert done.returncode == 0, done.stderr
    links = [line for line in done.stdout.splitlines() if not line.startswith("pipe:")]
    assert [line for line in links if line not in ("/dev/null", "/proc/self/fd")] == [], links


@pytest.mark.parametrize("number", range(3, 24))
def test_a_working_folder_through_a_descriptor(bundle, number):
    """S3: process.cwd = /proc/self/fd/N, for any N that the runtime may have open."""
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    done = bundle.run("sh", "-c", "pwd; ls ..")
    assert done.returncode != 0 and "process.cwd" in done.stderr, done.stdout


def test_an_execs_working_folder_through_a_descriptor(bundle):
    bundle.start("sleep", "1000")
    fds = open_folders(3)
    for number in range(3, 24):
        for target in (f"/proc/self/fd/{number}", "/link"):
            (bundle.rootfs / "link").unlink(missing_ok=True)
            (bundle.rootfs / "link").symlink_to(f"/proc/self/fd/{number}")
            done = bundle.exec("--cwd", target, bundle.id, "ls", "-a", pass_fds=fds)
            assert done.returncode != 0 and "process.cwd" in done.stderr, done.stdout
    for fd in fds:
        os.close(fd)


def test_an_execs_process_file_cannot_name_a_descriptor(bundle):
    bundle.start("sleep", "1000")
    process = dict(bundle.process, cwd="/proc/self/fd/5", args=["ls"])
    (bundle.folder / "process.json").write_text(json.dumps(process))
    done = bundle.exec("--process", bundle.folder / "process.json", bundle.id)
    assert done.returncode != 0 and "process.cwd" in done.stderr


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_inheritable_capabilities_stay_empty(bundle, verb):
    """S4, CVE-2022-24769 and CVE-2022-29162: not even those that exec adds."""
    script = "grep -E 'Cap(Inh|Amb)' /proc/self/status"
    if verb == "run":
        out = bundle.sh(script)
    else:
        bundle.start("sleep", "1000")
        out = bundle.exec("--cap", "CAP_NET_ADMIN", bundle.id, "sh", "-c", script).stdout
    assert [line.split()[1] for line in out.splitlines()] == ["0" * 16] * 2


def test_the_keyring_is_the_containers_own(armed):
    """S5: not the caller's session keyring, and not one whose name a neighbour took before."""
    neighbour = oci_bundle.Bundle(armed.runtime, armed.folder / "neighbour")
    (neighbour.rootfs / "bin/hostile").write_bytes((armed.rootfs / "bin/hostile").read_bytes())
    (neighbour.rootfs / "bin/hostile").chmod(0o755)
    try:
        neighbour.start("hostile", "ring", f"_ses.{armed.id}")
        for _ in range(200):
            if "taken" in neighbour.output():
                break
            neighbour.exec(neighbour.id, "true")
        taken = neighbour.output().split()
        assert taken[0] == "taken", taken
        mine = armed.sh("hostile session").split()[1]
        caller = subprocess.check_output([armed.rootfs / "bin/hostile", "session"]).split()[1]
        assert mine not in ("-1", taken[1], caller.decode()), (mine, taken, caller)
    finally:
        neighbour.close()


@in_the_lab
def test_no_start_without_a_keyring(armed):
    """S5: what cannot have its own does not go on with the caller's."""
    # Only who has one counts against the limit: everybody else is given a first one.
    words = [armed.rootfs / "bin/hostile", "joined", *armed.command("run", armed.id)]
    armed.write()
    with setting("/proc/sys/kernel/keys/root_maxkeys", 1):
        done = subprocess.run(words, cwd=armed.folder / "bundle", text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and "session keyring" in done.stderr, done


def test_the_callers_keyring_only_when_asked(armed):
    caller = subprocess.check_output([armed.rootfs / "bin/hostile", "session"], text=True)
    assert armed.sh("hostile session") != caller
    armed.process["args"] = ["hostile", "session"]
    assert armed.run(options=["--no-new-keyring"]).stdout == caller


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_terminal_that_is_shared_takes_no_characters(armed, verb):
    """S6, TIOCSTI and TIOCLINUX: the caller's own terminal as stdin of the program."""
    leader, follower = os.openpty()

    def lead():
        os.setsid()
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
    try:
        if verb == "run":
            done = armed.run("hostile", "inject", stdin=follower, preexec_fn=lead)
        else:
            armed.start("sleep", "1000")
            done = armed.exec(armed.id, "hostile", "inject", stdin=follower, preexec_fn=lead)
    finally:
        os.close(leader)
        os.close(follower)
    lines = dict(line.split(": ") for line in done.stdout.splitlines())
    # The terminal of our session, if it has one: the way in on every kernel.
    assert lines["/dev/tty"] == "ENXIO", done.stdout
    # EIO: newer kernels refuse it to everybody (dev.tty.legacy_tiocsti).
    assert lines["TIOCSTI"] in ("EPERM", "EIO") and lines["TIOCSCTTY"] == "EPERM", done.stdout
    assert lines["TIOCLINUX"] in ("EPERM", "ENOTTY"), done.stdout


def test_a_fifo_instead_of_passwd_does_not_stop_it(bundle):
    """S7: the runtime looks for HOME in the image's passwd."""
    (bundle.rootfs / "etc/passwd").unlink()
    os.mkfifo(bundle.rootfs / "etc/passwd")
    assert bundle.run("true", timeout=20).returncode == 0
    bundle.start("sleep", "1000")
    assert bundle.exec(bundle.id, "true", timeout=20).returncode == 0


def test_a_ring_of_links_and_a_huge_passwd(bundle):
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0:" + "x" * (1 << 20) + "\n" * 100000)
    assert bundle.run("sh", "-c", "echo $HOME").stdout == "/\n"
    (bundle.rootfs / "etc/passwd").unlink()
    (bundle.rootfs / "etc/passwd").symlink_to("passwd")
    assert bundle.run("true").returncode == 0


def test_a_passwd_without_an_end(bundle):
    """Not a line of it, and a terabyte."""
    (bundle.rootfs / "etc/passwd").write_text("")
    os.truncate(bundle.rootfs / "etc/passwd", 1 << 40)
    assert bundle.run("sh", "-c", "echo $HOME", timeout=20).stdout == "/\n"


def test_hooks_get_their_own_environment(bundle):
    """S8: neither the runtime's environment nor a descriptor of it."""
    hook = bundle.folder / "hook"
    hook.write_text(f"#!/bin/sh\nexec >{bundle.folder}/said\n/usr/bin/env\n"
                    f"for fd in /proc/$$/fd/*; do /bin/readlink $fd; done >{bundle.folder}/open\n"
                    "exit 0\n")  # the shell's own look at the folder is over by then
    hook.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [{"path": str(hook), "env": ["ONLY=this"]}]}
    fds = open_folders(5)
    done = bundle.run("true", env={"SECRET": "x", "LD_PRELOAD": "/nothing.so"}, pass_fds=fds)
    for fd in fds:
        os.close(fd)
    assert done.returncode == 0, done.stderr
    said = (bundle.folder / "said").read_text().split()
    assert "ONLY=this" in said and not [one for one in said if one.startswith(("SECRET", "LD_"))]
    # Its own three, and what the shell opened: the script, its output.
    links = (bundle.folder / "open").read_text().splitlines()
    assert [link for link in links if not link.startswith(("pipe:", "/memfd:state", "/dev/null",
                                                           str(bundle.folder)))] == [], links


def test_setuid_gains_nothing(armed):
    """S9: no_new_privs holds for the first program and for exec."""
    (armed.rootfs / "bin/hostile").chmod(0o4755)
    armed.process["user"] = {"uid": 1000, "gid": 1000}
    assert armed.sh("hostile ids") == "1000 1000\n"
    armed.start("sleep", "1000")
    assert armed.exec(armed.id, "hostile", "ids").stdout == "1000 1000\n"


def test_dac_read_search_opens_no_handle(armed_mapped):
    """S10, "shocker": the capability of a user namespace is not the host's."""
    grant(armed_mapped, "CAP_DAC_READ_SEARCH")
    out = armed_mapped.sh("hostile handles /etc; hostile handles /proc")
    assert "OPENED" not in out and out.count("EPERM") + out.count("EOPNOTSUPP") >= 2, out


def test_no_release_agent_in_a_user_namespace(armed_mapped):
    """S11, CVE-2022-0492: even with CAP_SYS_ADMIN over its own namespaces."""
    grant(armed_mapped, "CAP_SYS_ADMIN")
    out = armed_mapped.sh("hostile release; hostile release")
    assert "WROTE" not in out and out.strip(), out
