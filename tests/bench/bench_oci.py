"""brume-oci run and exec of `true` beside crun and beside the bare system calls (floor_oci.c).

A docker-like configuration: six namespaces, the usual mounts, masked and read-only paths, default
capabilities, docker's seccomp profile, a control group in every hierarchy, an overlay as root.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
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


def call(words, folder):
    subprocess.run(words, cwd=folder, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


def measure(bench, folder, crun):
    bundle = oci_bundle.Bundle(bench.build / "brume-oci", folder)
    bundle.root = bench.in_memory("oci-")
    crun_root = bench.in_memory("crun-")
    del bundle.linux["cgroupsPath"]
    bundle.linux["seccomp"] = oci_bundle.seccomp_profile(oci_bundle.DOCKER_CAPS)
    bundle.process["args"] = ["/bin/true"]
    bundle.write()
    place = folder / "bundle"
    ours = bundle.command("run", "bench")
    peer = [crun, "--root", str(crun_root), "run", "bench-crun"]
    call(ours, place)  # compiles the filter, which is then kept
    kept = next((bundle.root / ".seccomp").iterdir())
    floor = [bench.floor("oci"), str(bundle.rootfs), str(kept), "brume-floor-" + uuid.uuid4().hex[:8]]
    mine, theirs, least = bench.pairs(lambda _: call(ours, place), lambda _: call(peer, place),
                                      lambda _: call(floor, place))
    bench.row("oci run true", mine, theirs, 0.3, "crun")
    bench.row("oci run true", mine, least, 2, "bare floor")

    bundle.process["args"] = ["sleep", "100000"]
    bundle.write()
    with open(os.devnull, "r+b") as null:
        for words in (bundle.command("run", "-d", "bench"), peer[:3] + ["run", "-d", "bench-crun"]):
            subprocess.run(words, cwd=place, check=True, stdin=null, stdout=null, stderr=null)
    try:
        mine, theirs = bench.pairs(
            lambda _: call(bundle.command("exec", "bench", "/bin/true"), place),
            lambda _: call(peer[:3] + ["exec", "bench-crun", "/bin/true"], place))
        bench.row("oci exec true", mine, theirs, 0.5, "crun")
    finally:
        call(bundle.command("delete", "--force", "bench"), place)
        call(peer[:3] + ["delete", "--force", "bench-crun"], place)


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
