"""brume-oci beside crun and beside the bare system calls (floor_oci.c, floor_exec.c).

Run and exec of `true`, the life of 300 containers, and the memory of the runtime while it sets up.

A docker-like configuration: six namespaces, the usual mounts, masked and read-only paths, default
capabilities, docker's seccomp profile, a control group in every hierarchy, an overlay as root.
"""
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time
import uuid

import oci_bundle
from common import Skip


@contextlib.contextmanager
def without_hybrid():
    """Debian's crun refuses a cgroup2 tree beside version 1; this mount namespace is ours."""
    unified = "/sys/fs/cgroup/unified"
    hybrid = os.path.ismount(unified) and os.path.isdir("/sys/fs/cgroup/memory")
    if hybrid:
        subprocess.check_call(["umount", unified])
    try:
        yield
    finally:
        if hybrid:
            subprocess.check_call(["mount", "-t", "cgroup2", "cgroup2", unified])


@contextlib.contextmanager
def overlay(folder):
    """A mounted overlay with busybox in it."""
    lower = oci_bundle.make_root(folder / "lower")
    merged = folder / "bundle/rootfs"
    for path in (folder / "upper", folder / "work", merged):
        path.mkdir(parents=True, exist_ok=True)
    subprocess.check_call(["mount", "-t", "overlay", "overlay", "-o",
                           f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work",
                           str(merged)])
    try:
        yield merged
    finally:
        subprocess.check_call(["umount", str(merged)])


class Place:
    """One bundle on an overlay, and the command lines of both runtimes and of the floor for it."""

    def __init__(self, bench, folder, crun):
        self.bench, self.folder = bench, folder / "bundle"
        self.bundle = oci_bundle.Bundle(bench.build / "brume-oci", folder)
        self.bundle.root = bench.in_memory("oci-")
        self.runtimes = {"ours": [str(bench.build / "brume-oci"), "--root", str(self.bundle.root)],
                         "crun": [crun, "--root", str(bench.in_memory("crun-"))]}
        del self.bundle.linux["cgroupsPath"]
        self.bundle.linux["seccomp"] = oci_bundle.seccomp_profile(oci_bundle.DOCKER_CAPS)

    def write(self, *args, **hooks):
        self.bundle.process["args"] = list(args)
        self.bundle.config.pop("hooks", None)
        if hooks:
            self.bundle.config["hooks"] = hooks
        self.bundle.write()

    def call(self, who, *words):
        with open(os.devnull, "r+b") as null:
            subprocess.run([*self.runtimes[who], *words], cwd=self.folder, check=True, stdin=null,
                           stdout=null)

    def floor(self, name, *words):
        program = [self.bench.floor(name), *map(str, words)]
        return lambda _: subprocess.run(program, check=True, stdin=subprocess.DEVNULL)


def measure_run(bench, place):
    place.write("/bin/true")
    place.call("ours", "run", "bench-ours")  # compiles the filter, which is then kept
    kept = next((place.bundle.root / ".seccomp").iterdir())
    floor = place.floor("oci", place.bundle.rootfs, kept, "brume-floor-" + uuid.uuid4().hex[:8])
    mine, theirs, least = bench.series(lambda _: place.call("ours", "run", "bench-ours"),
                                       lambda _: place.call("crun", "run", "bench-crun"), floor,
                                       rounds=60)
    middle = statistics.median
    bench.row("oci run true", middle(mine), middle(theirs), 0.2, "crun")
    bench.row("oci run true", middle(mine), middle(least), 1.4, "bare floor")
    bench.row("oci run true, p95", bench.p95(mine), bench.p95(least), 1.6, "bare floor's p95")


def measure_exec(bench, place):
    place.write("sleep", "100000")
    for who in place.runtimes:
        place.call(who, "run", "-d", f"bench-{who}")
    try:
        state = subprocess.run([*place.runtimes["ours"], "state", "bench-ours"], check=True,
                               stdout=subprocess.PIPE).stdout
        mine, theirs, least = bench.pairs(
            lambda _: place.call("ours", "exec", "bench-ours", "/bin/true"),
            lambda _: place.call("crun", "exec", "bench-crun", "/bin/true"),
            place.floor("exec", json.loads(state)["pid"]))
        bench.row("oci exec true", mine, theirs, 0.2, "crun")
        bench.row("oci exec true", mine, least, 2, "bare floor")
    finally:
        for who in place.runtimes:
            place.call(who, "delete", "--force", f"bench-{who}")


LIFE = """set -e
for step in create start kill 'delete --force'; do
	i=0
	while [ $i -lt $COUNT ]; do
		case $step in
		kill) "$@" kill life-$i KILL ;;
		*) "$@" $step life-$i ;;
		esac
		i=$((i + 1))
	done
done
"""


def measure_life(bench, place):
    """All are created, then all started, killed, deleted: one command after the other."""
    count = bench.rounds(300)

    def life(who):
        begin = time.perf_counter()
        with open(os.devnull, "r+b") as null:
            subprocess.run(["sh", "-c", LIFE, "life", *place.runtimes[who]], cwd=place.folder,
                           check=True, stdin=null, stdout=null,
                           env={**os.environ, "COUNT": str(count)})
        return count / (time.perf_counter() - begin)
    place.write("sleep", "100000")
    bench.at_least(f"life of {count} containers", life("ours"), life("crun"), 2, "crun", "/s")


def measure_memory(bench, place):
    """The peak of the runtime's process, read by a hook that it starts when all is set up."""
    peaks = {}
    for who in place.runtimes:
        kept = place.bundle.folder / f"peak-{who}"
        script = f"grep VmHWM /proc/$PPID/status >{kept}"
        place.write("/bin/true", createRuntime=[{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        place.call(who, "run", f"bench-{who}")
        peaks[who] = int(kept.read_text().split()[1]) / 1024
    bench.bound("oci run, peak RSS", peaks["ours"], 2.5, "MB")
    bench.note(f"crun's peak RSS is {peaks['crun']:.1f} MB")


def measure(bench, folder, crun):
    place = Place(bench, folder, crun)
    measure_run(bench, place)
    measure_memory(bench, place)  # with the filter compiled and kept, as for all but the first
    measure_exec(bench, place)
    measure_life(bench, place)  # the longest


def run(bench):
    crun = shutil.which("crun")
    if not crun:
        raise Skip("crun is not installed")
    if not pathlib.Path(oci_bundle.SECCOMP_SOURCE).exists():
        raise Skip(f"{oci_bundle.SECCOMP_SOURCE} is not there")
    folder = bench.scratch / "oci"
    folder.mkdir()
    with without_hybrid(), overlay(folder):
        measure(bench, folder, crun)
