"""podman as a client of brume-oci: a real engine, a real image, conmon in between."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import oci_bundle
import pytest
from conftest import need

LIMITS = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=512:512"]


class Podman:
    """podman with all its folders below one, in this session's namespaces."""

    def __init__(self, runtime, folder):
        # Where podman keeps sockets; their paths must stay short.
        self.run_root = tempfile.mkdtemp(prefix="bt-", dir="/var/tmp")
        self.base = ["podman", "--root", str(folder / "root"), "--runroot", self.run_root,
                     "--tmpdir", self.run_root + "/tmp", "--storage-driver", "vfs",
                     "--cgroup-manager", "cgroupfs", "--events-backend", "file",
                     "--runtime", str(runtime)]
        self.folder = folder

    def __call__(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([*self.base, *map(str, words)], text=True, timeout=100,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def good(self, *words):
        done = self(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def run(self, *words):
        return self("run", "--rm", *LIMITS, *words)

    def close(self):
        self("rm", "--all", "--force", "--time", "0")
        for folder in pathlib.Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            # Others may use podman here as well: only what is empty goes.
            for path in [*folder.glob("*/"), folder]:
                try:
                    path.rmdir()
                except OSError:
                    pass
        shutil.rmtree(self.run_root, ignore_errors=True)


@pytest.fixture(scope="module")
def podman(build):
    need("brume-oci", "podman", "conmon", "busybox")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    unified = pathlib.Path("/sys/fs/cgroup/unified")
    if os.path.ismount(unified) and pathlib.Path("/sys/fs/cgroup/memory").is_dir():
        # podman 4 does not work on a hybrid host; this session's mount namespace is its own.
        subprocess.check_call(["umount", str(unified)])
    oci_bundle.make_root(folder / "rootfs")
    subprocess.check_call(["tar", "-C", str(folder / "rootfs"), "-cf", str(folder / "image.tar"),
                           "."])
    it = Podman(build / "brume-oci", folder)
    try:
        it.good("import", folder / "image.tar", "box")
        yield it
    finally:
        it.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_run(podman):
    done = podman.run("box", "sh", "-c", "echo out; echo err >&2; id -u; exit 3")
    assert done.returncode == 3 and done.stdout == "out\n0\n" and done.stderr == "err\n"


def test_runtime_is_known(podman):
    assert "brume-oci version" in podman.good("info")


def test_missing_program(podman):
    done = podman.run("box", "no-such-program")
    assert done.returncode == 127 and "not found" in done.stderr


def test_detached_exec_stop(podman):
    podman.good("run", "-d", "--name", "one", *LIMITS, "box", "sleep", "1000")
    assert podman.good("exec", "one", "hostname").strip()
    assert podman("exec", "one", "sh", "-c", "exit 9").returncode == 9
    assert "/dev/pts/" in podman.good("exec", "-t", "one", "tty")
    assert podman.good("inspect", "-f", "{{.State.Status}}", "one") == "running\n"
    podman.good("pause", "one")
    assert podman.good("inspect", "-f", "{{.State.Status}}", "one") == "paused\n"
    podman.good("unpause", "one")
    podman.good("stop", "-t", "0", "one")
    assert podman.good("inspect", "-f", "{{.State.ExitCode}}", "one") == "137\n"
    podman.good("start", "one")
    podman.good("rm", "-f", "-t", "0", "one")


def test_limits_and_read_only(podman):
    script = ("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max "
              "2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; touch /x")
    done = podman.run("--memory", "32m", "--pids-limit", "25", "--read-only", "box", "sh", "-c",
                      script)
    assert done.stdout.split() == [str(32 << 20), "25"] and "Read-only" in done.stderr


def test_user_namespace_and_volume(podman):
    volume = podman.folder / "volume"
    volume.mkdir()
    os.chown(volume, 100000, 100000)
    done = podman.run("--uidmap", "0:100000:65536", "-v", f"{volume}:/data", "--tmpfs", "/scratch",
                      "box", "sh", "-c", "cat /proc/self/uid_map; touch /data/x /scratch/y; id -u")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "100000", "65536", "0"]
    assert (volume / "x").stat().st_uid == 100000


def test_terminal(podman):
    done = podman.run("-t", "box", "sh", "-c", "tty; test -t 1 && echo ok")
    assert done.stdout.replace("\r", "").splitlines() == ["/dev/pts/0", "ok"]


def test_nothing_is_left(podman):
    podman.good("run", "--rm", *LIMITS, "box", "true")
    assert podman.good("ps", "-aq") == ""
    for folder in pathlib.Path("/sys/fs/cgroup").glob("*/libpod_parent/libpod-*"):
        assert "conmon" in folder.name or (folder / "cgroup.procs").read_text() != "", folder
