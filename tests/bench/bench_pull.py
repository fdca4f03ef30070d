"""Pulling a large image from Debian's registry on loopback, against podman pull.

The image has five layers of this machine's own /usr, together 600 MB and about 200 MB when gzipped.
Our side is tests/image-driver, which calls what the agent calls; wall time ends when the image is
recorded, as podman's does; neither waits for the disk.  CPU time is that of all processes of a side,
the registry apart.
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tarfile
import time
import uuid

import registry as registry_module
from common import Podman, Skip
from image_builder import OCI, Image, sha256, to_json

# A few giants of one machine would decide what is measured.
LARGEST_FILE_BYTES = 16 << 20
SHARES = (0.33, 0.27, 0.2, 0.12, 0.08)


class Here:
    """This process' own namespaces, as registry.py and Podman want to be told."""
    pid = os.getpid()
    popen = staticmethod(subprocess.Popen)


def choose_files(size_bytes):
    """Files of /usr of about that size together, always the same ones on one machine."""
    found = []
    for folder, _, names in os.walk("/usr"):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if os.path.islink(path) or os.path.isfile(path):
                found.append((path, status.st_size))
    found = sorted(it for it in found if it[1] <= LARGEST_FILE_BYTES)
    random.Random(1).shuffle(found)
    total, count = 0, 0
    while count < len(found) and total < size_bytes:
        total += found[count][1]
        count += 1
    return sorted(found[:count])


class Layer:
    """A gzipped layer, as a file."""

    def __init__(self, folder, number, files):
        plain = folder / f"layer{number}.tar"
        with tarfile.open(plain, "w", format=tarfile.GNU_FORMAT) as tar:
            for path, _ in files:
                tar.add(path, arcname=path[1:], recursive=False)
        with open(plain, "rb") as file:
            self.diff_id = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        self.plain_size = plain.stat().st_size
        subprocess.run(["gzip", "-6n", plain], check=True)
        self.data = (folder / f"layer{number}.tar.gz").read_bytes()


def make_image(folder, size_bytes):
    files = choose_files(size_bytes)
    total, layers, at = sum(size for _, size in files), [], 0
    for number, share in enumerate(SHARES):
        begin, size = at, 0
        while at < len(files) and size < share * total:
            size += files[at][1]
            at += 1
        layers.append(Layer(folder, number, files[begin:at]))
    image = Image([], {"Cmd": ["/bin/sh"]})
    descriptors = [image._add(layer.data, OCI["layer"]["gzip"]) for layer in layers]
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [layer.diff_id for layer in layers]
    del image.blobs[sha256(image.config)]
    image.config = to_json(config)
    image.manifest = to_json({"schemaVersion": 2, "mediaType": OCI["manifest"],
                              "config": image._add(image.config, OCI["config"]),
                              "layers": descriptors})
    return image, sum(len(layer.data) for layer in layers), sum(it.plain_size for it in layers)


class Ours:
    def __init__(self, bench):
        self.program, self.folder = bench.build / "tests/image-driver", bench.scratch / "ours"
        for path in (self.program, bench.build / "brume-image-worker"):
            if not path.exists():
                raise Skip(f"{path.name} is not built in {bench.build}")
        self.env = {**os.environ, "IMAGE_DRIVER_WORKER": str(bench.build / "brume-image-worker")}

    def pull(self, reference, uid):
        """Seconds until the image is recorded.  The driver then waits for the disk; we do not."""
        begin = time.perf_counter()
        process = subprocess.Popen([self.program, self.folder / "images", "pull", uid, reference],
                                   env=self.env, stdout=subprocess.PIPE)
        line = process.stdout.readline()
        wall = time.perf_counter() - begin
        if process.wait() or not line.startswith(b"{"):
            raise RuntimeError("image-driver could not pull")
        return wall

    def empty(self):
        """A new folder: on ext4, making files is slow for a while after many were removed."""
        self.folder = self.folder.with_name(f"ours{uuid.uuid4().hex}")
        self.folder.mkdir(mode=0o711)


def measure(bench, ours, podmans, reference):
    walls, cpus = ([], []), ([], [])

    def pull_theirs():
        podman = Podman(bench, Here)
        podmans.append(podman)
        return lambda: podman("pull", "-q", "--tls-verify=false", reference)

    def pull_ours():
        ours.empty()
        return lambda: walls[0].append(ours.pull(reference, "first"))
    for number in range(bench.rounds(5)):
        for side, prepare in ((0, pull_ours), (1, pull_theirs))[::1 if number % 2 else -1]:
            pull = prepare()
            os.sync()  # nothing of the other side is still on its way to the disk
            wall, cpu = bench.cpu_of_children(pull)
            cpus[side].append(cpu)
            if side == 1:
                walls[1].append(wall)
    middle = [[statistics.median(side) for side in kind] for kind in (walls, cpus)]
    bench.row("pull into an empty store, wall", *middle[0], 0.4, "podman pull")
    bench.row("pull into an empty store, cpu", *middle[1], 0.4, "podman pull")
    again = [ours.pull(reference, f"again{number}") for number in range(bench.rounds(20))]
    bench.bound("pull again, layers present", statistics.median(again) * 1000, 50, "ms")


def run(bench):
    if not shutil.which("docker-registry"):
        raise Skip("docker-registry is not installed")
    ours, folder = Ours(bench), pathlib.Path(bench.scratch)
    image, packed, plain = make_image(folder, 60e6 if bench.quick else 600e6)
    bench.note(f"5 layers, {packed / 1e6:.0f} MB gzip, {plain / 1e6:.0f} MB unpacked")
    registry = registry_module.Registry(Here, folder / "registry")
    podmans = []
    try:
        reference = registry.push(image, "debian:1")
        measure(bench, ours, podmans, reference)
    finally:
        for podman in podmans:
            podman.close()
        registry.stop()
