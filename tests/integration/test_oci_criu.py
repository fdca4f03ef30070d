"""brume-oci checkpoint and restore: with CRIU where the kernel lets it work, and every refusal.

A counter in the memory of the container's shell writes each number into a file: after a restore
the next number must follow the last one.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import kernel
import node
import oci_bundle
import pytest

COUNT = "n=0; while :; do n=$((n+1)); echo $n >> /count; sleep 0.1; done"


def criu_works():
    return bool(shutil.which("criu")) and subprocess.run(
        ["criu", "check"], capture_output=True).returncode == 0


works = pytest.mark.skipif(not criu_works(), reason="CRIU does not work here")


@pytest.fixture
def images(bundle):
    return bundle.folder / "images"


def numbers(bundle):
    path = bundle.rootfs / "count"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def counts_beyond(bundle, last):
    """It goes on, and every number has come once."""
    node.eventually(lambda: len(numbers(bundle)) > last + 3, what="the counter")
    got = numbers(bundle)
    assert got == list(range(1, len(got) + 1))
    return len(got)


def checkpoint(bundle, images, *options, check=True):
    return bundle.call("checkpoint", "--image-path", images, *options, bundle.id, check=check)


def restore(bundle, images, *options, check=True):
    """Detached, with the files that create() gave it: CRIU wants them as they were."""
    with open(bundle.folder / "out", "ab") as out, open(bundle.folder / "err", "ab") as err:
        code = subprocess.call(
            bundle.command("restore", "-d", "--bundle", bundle.folder / "bundle", "--image-path",
                           images, *options, bundle.id),
            stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    said = (bundle.folder / "err").read_text()
    if check:
        assert code == 0, said + criu_log(images, "restore.log")
    return code, said


def criu_log(images, name):
    path = pathlib.Path(images) / name
    return path.read_text(errors="replace")[-6000:] if path.exists() else "no log"


def absent(bundle):
    done = bundle.call("state", bundle.id)
    return done.returncode == 1 and "does not exist" in done.stderr


# ---- refusals, which need no CRIU ----


@pytest.fixture
def fake(bundle):
    """Gives a function that makes a program `criu` of a shell script; PATH has nothing else."""
    folder = bundle.folder / "programs"
    folder.mkdir()

    def make(script):
        (folder / "criu").write_text("#!/bin/sh\n" + script)
        (folder / "criu").chmod(0o755)
    make.env = {**os.environ, "PATH": str(folder)}
    return make


def refused(bundle, images, words, **more):
    """checkpoint fails with these words, and the container goes on."""
    before = len(numbers(bundle))
    done = bundle.call("checkpoint", "--image-path", images, bundle.id, **more)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert bundle.state()["status"] == "running"
    counts_beyond(bundle, before)


def test_no_criu(bundle, images, fake):
    bundle.start("sh", "-c", COUNT)
    refused(bundle, images, ["no program `criu` on PATH", "install the package criu"],
            env=fake.env)
    assert not images.exists()


def test_a_criu_that_is_none(bundle, images, fake):
    bundle.start("sh", "-c", COUNT)
    fake("echo nonsense; exit 3\n")
    refused(bundle, images, ["programs/criu", "does not say its version"], env=fake.env)
    assert not images.exists()


VERSION = r"printf '\010\012\020\001\122\004\010\003\020\%s' >&$2"


def test_an_old_criu(bundle, images, fake):
    bundle.start("sh", "-c", COUNT)
    fake(VERSION % "012")
    refused(bundle, images, ["is version 3.10", "3.17 or newer"], env=fake.env)


def test_a_criu_that_fails(bundle, images, fake):
    """What it says on stderr is told; its log would be better, and is told first."""
    bundle.start("sh", "-c", COUNT)
    marker = bundle.folder / "asked"
    first = f"[ -e {marker} ] || {{ : > {marker}; {VERSION % '021'}; exit 0; }}\n"
    fake(first + "echo 'something is wrong' >&2; exit 1\n")
    refused(bundle, images, ["CRIU failed", "something is wrong"], env=fake.env)
    marker.unlink()
    work = bundle.folder / "work"
    fake(first + f"echo '(00.1) Error (criu/x.c:1): x: no way' > {work}/dump.log\n"
         r"printf '\010\001\020\000' >&$2" "\n")
    before = len(numbers(bundle))
    done = bundle.call("checkpoint", "--image-path", images, "--work-path", work, bundle.id,
                       env=fake.env)
    assert done.returncode == 1
    assert done.stderr == ("brume-oci: CRIU failed: (criu/x.c:1): x: no way; its log is "
                           f"{work}/dump.log\n")
    counts_beyond(bundle, before)


def test_refused_states_and_namespaces(bundle, images):
    bundle.create("sleep", "1000")
    done = checkpoint(bundle, images, check=False)
    assert done.returncode == 1 and "is created; only one that is running" in done.stderr
    pid = bundle.state()["pid"]
    for name in ("ipc", "uts"):
        other = type(bundle)(bundle.runtime, bundle.folder / name)
        namespaces = other.linux["namespaces"]
        next(one for one in namespaces if one["type"] == name)["path"] = f"/proc/{pid}/ns/{name}"
        del other.config["hostname"]
        namespaces[:] = [one for one in namespaces if one["type"] != "uts" or "path" in one]
        try:
            other.start("sleep", "1000")
            done = checkpoint(other, images, check=False)
            assert done.returncode == 1 and f"namespaces: {name}: CRIU cannot" in done.stderr
            assert other.state()["status"] == "running"
        finally:
            other.close()
    bundle.call("delete", "--force", bundle.id, check=True)
    assert checkpoint(bundle, images, check=False).returncode == 1


def test_a_process_of_exec_is_named(bundle, images):
    bundle.start("sh", "-c", COUNT)
    null = subprocess.DEVNULL
    subprocess.run(bundle.command("exec", "-d", bundle.id, "sleep", "1000"), check=True,
                   stdin=null, stdout=null, stderr=null)
    refused(bundle, images, ["was started in the container by exec", "end it first"])


@pytest.mark.parametrize("words,said", [
    (["--lazy-pages"], "--lazy-pages"),
    (["--page-server", "a:1"], "--page-server"),
    (["--manage-cgroups-mode", "some"], "soft, full, strict or ignore"),
    (["--parent-path", "/first"], "relative to --image-path"),
    (["--empty-ns", "pid"], "is not network"),
    (["--never-heard"], "--never-heard"),
])
def test_usage(bundle, words, said):
    done = bundle.call("checkpoint", *words, bundle.id)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_restore_of_what_is_no_checkpoint(bundle, images, fake):
    bundle.write()
    fake(VERSION % "021")
    folder = bundle.folder / "bundle"
    for make, said in ((lambda: None, "--image-path"), (images.mkdir, "has no brume-oci.json")):
        make()
        done = bundle.call("restore", "--bundle", folder, "--image-path", images, bundle.id,
                           env=fake.env)
        assert done.returncode == 1 and said in done.stderr and absent(bundle)
    for text, said in (("{", "brume-oci.json"), ('{"version": 7}', "version: 7 is not known"),
                       ('{"version":1,"externals":[{"kind":"root","below":"../etc"}]}',
                        "is not a path inside"),
                       ('{"version":1,"externals":[{"kind":"mount","of":"/host"}]}',
                        "config.json has none")):
        (images / "brume-oci.json").write_text(text)
        done = bundle.call("restore", "--bundle", folder, "--image-path", images, bundle.id,
                           env=fake.env)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1
        assert absent(bundle) and bundle.leftovers() == []


def test_engines_ask_by_help(bundle):
    for verb in ("checkpoint", "restore"):
        done = bundle.call(verb, "--help", check=True)
        assert "--image-path" in done.stdout
    features = json.loads(bundle.call("features", check=True).stdout)
    assert features["annotations"]["dev.brume.oci.checkpoint.enabled"] == "true"


# ---- the real thing ----


@works
def test_there_and_back(bundle, images):
    bundle.start("sh", "-c", COUNT)
    counts_beyond(bundle, 0)
    pid = bundle.state()["pid"]
    checkpoint(bundle, images)
    assert absent(bundle) and bundle.leftovers() == []
    assert not pathlib.Path(f"/proc/{pid}").exists() or kernel.wait_for_exit(pid)
    assert not [name for name in os.listdir(bundle.rootfs) if "criu" in name]
    last = len(numbers(bundle))

    pid_file = bundle.folder / "pid"
    restore(bundle, images, "--pid-file", pid_file)
    state = bundle.state()
    assert state["status"] == "running" and state["pid"] == int(pid_file.read_text())
    last = counts_beyond(bundle, last)

    # Every verb knows it.
    assert bundle.exec(bundle.id, "cat", "/proc/1/comm", check=True).stdout == "sh\n"
    assert bundle.exec(bundle.id, "hostname", check=True).stdout == "box\n"
    groups = pathlib.Path(f"/proc/{state['pid']}/cgroup").read_text().splitlines()
    assert all(line.endswith(bundle.cgroup) for line in groups)
    assert str(state["pid"]) in bundle.call("ps", bundle.id, check=True).stdout
    bundle.call("pause", bundle.id, check=True)
    assert bundle.state()["status"] == "paused"
    bundle.call("resume", bundle.id, check=True)
    counts_beyond(bundle, last)
    taken = bundle.call("restore", "--bundle", bundle.folder / "bundle", "--image-path", images,
                        bundle.id)
    assert taken.returncode == 1 and "exists already" in taken.stderr
    counts_beyond(bundle, len(numbers(bundle)))
    bundle.call("kill", bundle.id, "KILL", check=True)
    node.eventually(lambda: bundle.state()["status"] == "stopped")
    bundle.call("delete", bundle.id, check=True)
    assert bundle.leftovers() == []


def seen_inside(bundle):
    """What of its surroundings a container sees: mounts and their options, masks, rights."""
    script = ("cut -d' ' -f5,6 /proc/self/mountinfo | sort; ls -l /dev | cut -c1-10;"
              "for f in /proc/kcore /proc/keys; do wc -c < $f; done; ls /proc/acpi /sys/firmware;"
              "grep -E 'Cap|NoNew|Seccomp:' /proc/1/status; cat /proc/1/uid_map; umask;"
              "touch /proc/sys/x /data/x /read/x 2>&1; cat /data/file /data/sub/file /one")
    return bundle.exec(bundle.id, "sh", "-c", script).stdout


@works
@pytest.mark.parametrize("kind", ["bundle", "mapped"])
def test_mounts_and_rights_are_as_before(request, kind):
    bundle = request.getfixturevalue(kind)
    images, source = bundle.folder / "images", bundle.folder / "source"
    (source / "sub").mkdir(parents=True)
    (source / "tmp").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", source / "sub"], check=True)
    (source / "file").write_text("data\n")
    (source / "sub/file").write_text("sub\n")
    (bundle.folder / "one").write_text("one file\n")
    bundle.config["mounts"] += [
        {"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind"]},
        {"destination": "/read", "type": "bind", "source": str(source), "options": ["bind", "ro"]},
        {"destination": "/one", "type": "bind", "source": str(bundle.folder / "one"),
         "options": ["bind", "ro", "nosuid"]},
        {"destination": "/data/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}]
    bundle.linux["maskedPaths"].append("/etc/hidden")
    (bundle.rootfs / "etc/hidden").write_text("nobody sees it\n")
    bundle.linux["readonlyPaths"].append("/etc")
    bundle.linux["resources"]["pids"] = {"limit": 77}
    try:
        bundle.start("sh", "-c", "echo kept > /data/tmp/kept; " + COUNT)
        counts_beyond(bundle, 0)
        # CRIU opens them again, as root of the container's user namespace.
        for name in ("out", "err"):
            (bundle.folder / name).chmod(0o666)
        before = seen_inside(bundle)
        assert "data\nsub\none file\n" in before
        checkpoint(bundle, images)
        last = len(numbers(bundle))
        restore(bundle, images)
        counts_beyond(bundle, last)
        assert seen_inside(bundle) == before
        assert bundle.exec(bundle.id, "cat", "/data/tmp/kept", check=True).stdout == "kept\n"
        assert bundle.exec(bundle.id, "cat", "/etc/hidden", check=True).stdout == ""
        limits = list(pathlib.Path("/sys/fs/cgroup").glob(f"**{bundle.cgroup}/pids.max"))
        limits += list(pathlib.Path("/sys/fs/cgroup").glob(f"pids{bundle.cgroup}/pids.max"))
        assert [path.read_text() for path in set(limits)] == ["77\n"]
    finally:
        bundle.close()
        subprocess.run(["umount", source / "sub"], check=True)
    assert bundle.leftovers() == []


@works
@pytest.mark.parametrize("kind", ["bundle", "mapped"])
def test_an_idmapped_mount(request, kind):
    """Who is who on the disk stays so, for open files too."""
    bundle = request.getfixturevalue(kind)
    images, source = bundle.folder / "images", bundle.folder / "source"
    first, inside = (oci_bundle.MAPPED, 0) if kind == "mapped" else (5000, 5000)
    source.mkdir()
    source.chmod(0o777)
    (source / "file").write_text("x")
    for path, owner in ((source, 0), (source / "file", 7)):
        os.chown(path, owner, owner)
    maps = [{"containerID": 0, "hostID": first, "size": 1000}]
    bundle.config["mounts"].append(
        {"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind", "ridmap"],
         "uidMappings": maps, "gidMappings": maps})
    bundle.start("sh", "-c", "exec 3</data/file; " + COUNT)
    counts_beyond(bundle, 0)
    for name in ("out", "err"):
        (bundle.folder / name).chmod(0o666)

    def owners():
        return bundle.exec(bundle.id, "stat", "-Lc", "%u:%g", "/data", "/data/file", "/proc/1/fd/3",
                           check=True).stdout.split()
    before = owners()
    assert before == [f"{inside + n}:{inside + n}" for n in (0, 7, 7)]
    checkpoint(bundle, images)
    last = len(numbers(bundle))
    restore(bundle, images)
    counts_beyond(bundle, last)
    assert owners() == before
    # What is made there belongs to the right one on the disk.
    bundle.exec("--user", f"{inside + 3}:{inside + 3}", bundle.id, "touch", "/data/made", check=True)
    made = (source / "made").stat()
    assert (made.st_uid, made.st_gid) == (3, 3)


@works
def test_leave_running_pre_dump_and_again(bundle, images):
    bundle.start("sh", "-c", COUNT)
    counts_beyond(bundle, 0)
    done = checkpoint(bundle, images / "other", "--parent-path", "../first", check=False)
    assert done.returncode == 1 and "is not a folder, relative to" in done.stderr
    checkpoint(bundle, images / "first", "--pre-dump")
    assert bundle.state()["status"] == "running"
    last = counts_beyond(bundle, len(numbers(bundle)))
    checkpoint(bundle, images / "copy", "--leave-running")
    last = counts_beyond(bundle, last)
    checkpoint(bundle, images / "second", "--parent-path", "../first")
    assert absent(bundle)
    last = len(numbers(bundle))
    restore(bundle, images / "second")
    last = counts_beyond(bundle, last)
    checkpoint(bundle, images / "third")
    last = len(numbers(bundle))
    restore(bundle, images / "third")
    counts_beyond(bundle, last)


@works
def test_a_paused_one_goes_on_when_it_is_restored(bundle, images):
    bundle.start("sh", "-c", COUNT)
    counts_beyond(bundle, 0)
    bundle.call("pause", bundle.id, check=True)
    checkpoint(bundle, images)
    assert absent(bundle) and bundle.leftovers() == []
    last = len(numbers(bundle))
    restore(bundle, images)
    assert bundle.state()["status"] == "running"
    counts_beyond(bundle, last)


@works
def test_hooks(bundle, images):
    log = bundle.folder / "hooks"
    for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart",
                 "poststop"):
        bundle.config.setdefault("hooks", {})[kind] = [
            {"path": "/bin/sh",
             "args": ["sh", "-c", f"[ ! -d {bundle.folder} ] || {{ echo {kind} >> {log};"
                                  f" cat >> {log}.state; echo >> {log}.state; }}"]}]
    bundle.start("sh", "-c", COUNT)
    counts_beyond(bundle, 0)
    checkpoint(bundle, images)
    assert log.read_text().split()[-1] == "poststop"
    log.write_text("")
    last = len(numbers(bundle))
    restore(bundle, images)
    assert log.read_text().split() == ["prestart", "createRuntime"]
    state = json.loads(pathlib.Path(f"{log}.state").read_text().splitlines()[-1])
    assert state["id"] == bundle.id and state["pid"] == bundle.state()["pid"]
    counts_beyond(bundle, last)

    # One that fails ends it, and nothing is left.
    checkpoint(bundle, images)
    last = len(numbers(bundle))
    bundle.config["hooks"]["createRuntime"] = [{"path": "/bin/false"}]
    bundle.write()
    code, said = restore(bundle, images, check=False)
    assert code == 1 and "createRuntime: hook /bin/false: exit code 1" in said
    assert absent(bundle) and bundle.leftovers() == [] and len(numbers(bundle)) == last


@works
def test_pipes_and_the_foreground(bundle, images):
    """The restored program writes into the pipe that restore was given, and ends in its hands."""
    script = "n=0; while [ ! -e /end ]; do n=$((n+1)); echo line $n; sleep 0.1; done; exit 9"
    bundle.process["args"] = ["sh", "-c", script]
    bundle.write()
    errors = open(bundle.folder / "errors", "w")
    first = subprocess.Popen(bundle.command("run", bundle.id), cwd=bundle.folder / "bundle",
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                             text=True)
    assert first.stdout.readline() == "line 1\n"
    checkpoint(bundle, images)
    rest = first.stdout.read().splitlines()
    assert first.wait(20) == 128 + 9
    number = int(rest[-1].split()[1]) if rest else 1
    again = subprocess.Popen(
        bundle.command("restore", "--bundle", bundle.folder / "bundle", "--image-path", images,
                       bundle.id), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=errors, text=True)
    line = again.stdout.readline()
    assert line == f"line {number + 1}\n", criu_log(images, "restore.log")
    (bundle.rootfs / "end").touch()
    assert again.wait(20) == 9
    assert absent(bundle) and bundle.leftovers() == []


@works
def test_a_terminal(bundle, images):
    """The new master comes over the console socket, and is the program's terminal."""
    bundle.process["terminal"] = True
    path = bundle.folder / "tty.sock"
    masters = []

    def listen(listener):
        connection, _ = listener.accept()
        masters.append(socket.recv_fds(connection, 100, 1)[1][0])

    def with_console(action):
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            waiting = threading.Thread(target=listen, args=(listener,))
            waiting.start()
            action()
            waiting.join(20)
        return masters.pop()

    def said(master, wanted):
        text = b""
        while wanted not in text:
            text += os.read(master, 1000)
    script = "stty -echo; echo ready; while read x; do echo got $x; done"
    first = with_console(lambda: bundle.start("sh", "-c", script,
                                              options=["--console-socket", path]))
    said(first, b"ready")
    os.write(first, b"one\n")
    said(first, b"got one")
    done = bundle.call("restore", "--bundle", bundle.folder / "bundle", "--image-path", images,
                       "x" + bundle.id, "--detach")
    assert done.returncode != 0
    checkpoint(bundle, images)
    os.close(first)
    second = with_console(lambda: restore(bundle, images, "--console-socket", path))
    os.write(second, b"two\n")
    said(second, b"got two")
    os.close(second)


@works
def test_a_network_namespace_by_path(bundle, images):
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        node.eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") !=
                        os.readlink("/proc/self/ns/net"))
        network = next(one for one in bundle.linux["namespaces"] if one["type"] == "network")
        network["path"] = f"/proc/{holder.pid}/ns/net"
        bundle.start("sh", "-c", COUNT)
        counts_beyond(bundle, 0)
        checkpoint(bundle, images)
        last = len(numbers(bundle))
        restore(bundle, images)
        counts_beyond(bundle, last)
        pid = bundle.state()["pid"]
        assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{holder.pid}/ns/net")
    finally:
        holder.kill()
        holder.wait()


@works
def test_what_criu_cannot_carry(bundle, images):
    """An advice in CRIU's own words, and the container goes on."""
    oci_bundle.with_python(bundle)
    script = ("import fcntl, time\nlock = open('/tmp/lock', 'w')\nfcntl.flock(lock, 2)\nn = 0\n"
              "while True:\n  n += 1\n  print(n, file=open('/count', 'a'))\n  time.sleep(0.1)\n")
    bundle.start("/usr/bin/python3", "-I", "-S", "-c", script)
    counts_beyond(bundle, 0)
    refused(bundle, images, ["CRIU failed", "file-locks", f"{images}/dump.log"])
    checkpoint(bundle, images, "--file-locks")
    last = len(numbers(bundle))
    restore(bundle, images, "--file-locks")
    counts_beyond(bundle, last)


@works
def test_a_restore_that_fails_leaves_nothing(bundle, images):
    bundle.start("sh", "-c", COUNT)
    counts_beyond(bundle, 0)
    checkpoint(bundle, images)
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    for image in images.glob("mm-*.img"):
        image.unlink()
    code, said = restore(bundle, images, check=False)
    assert code == 1 and "CRIU failed" in said and f"{images}/restore.log" in said
    assert absent(bundle) and bundle.leftovers() == []
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before
