#!/usr/bin/python3 -B
# An empty disk: a file system on it is a container's volume, and its limit on writing holds (io.max).
#
# lab: kernels=6.12 disk=96 time=90
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.environ["LAB"] + "/tests/integration")

import oci_bundle  # noqa: E402

DISK, MIB = os.environ["LAB_DISK"], 1 << 20


def run(*words):
    subprocess.check_call([str(word) for word in words])


def written(bundle, mib):
    """Seconds that it takes in the container, past every cache: the page cache's writes may be another group's."""
    begin = time.monotonic()
    done = bundle.run("sh", "-c", f"dd if=/dev/zero of=/volume/file bs=1M count={mib} oflag=direct 2>&1")
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - begin


def main():
    sectors = int(pathlib.Path(f"/sys/class/block/{pathlib.Path(DISK).name}/size").read_text())
    assert sectors * 512 == 96 * MIB, sectors
    assert pathlib.Path(DISK).read_bytes().count(0) == 96 * MIB, "the disk is not empty"
    run("mkfs.ext4", "-q", DISK)
    # Not below /tmp: what is written must not lie on another disk by mistake.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    volume = folder / "volume"
    volume.mkdir()
    run("mount", DISK, volume)
    try:
        bundle = oci_bundle.Bundle(os.environ["BRUME_BUILD"] + "/brume-oci", folder)
        bundle.config["mounts"].append({"destination": "/volume", "type": "bind", "source": str(volume),
                                        "options": ["rbind", "rw"]})
        free = written(bundle, 8)
        number = os.stat(DISK).st_rdev
        bundle.linux["resources"]["blockIO"] = {"throttleWriteBpsDevice": [
            {"major": os.major(number), "minor": os.minor(number), "rate": 2 * MIB}]}
        limited = written(bundle, 8)
        print(f"8 MiB took {free:.2f} s, at 2 MiB a second {limited:.2f} s")
        assert limited > 3, "the limit did not hold"
        assert (volume / "file").stat().st_size == 8 * MIB
    finally:
        run("umount", volume)
    run("fsck.ext4", "-fn", DISK)


main()
