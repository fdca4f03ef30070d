"""What the workers of images, disks and kernels can not do, when a stranger's bytes have taken them over."""
import contextlib
import glob
import io
import os
import pathlib
import subprocess
import tarfile
import time

import images
import pytest
from conftest import need
from test_image_store import SLOT_UID, Failed, Store, children_of
from vm_kernel import need_kernel

NOBODYS_SLOT = SLOT_UID + 12287 * 65536


@pytest.fixture
def store(build, scratch):
    need("tests/image-driver", "brume-image-worker")
    (scratch / "in-use").touch()
    return Store(build, scratch)


@pytest.fixture
def other_usr(scratch):
    """Files of the host's /usr are replaced, for this session only: {path: content, None to hide it}."""
    mounted = []

    def replace(files):
        lower = scratch / "usr"
        for path, content in files.items():
            target = lower / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                os.mknod(target, 0o20000, 0)
                continue
            target.write_text(content)
            target.chmod(0o755)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}:/usr", "/usr"], check=True)
        mounted.append("/usr")
    yield replace
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


def give_image(store, scratch):
    layout, tar = scratch / "layout", io.BytesIO()
    images.layered().write_layout(layout)
    with tarfile.open(fileobj=tar, mode="w") as out:
        out.add(layout, ".")
    store("import", "one", "layered", data=tar.getvalue())


# -- disks ---------------------------------------------------------------------------------------

def test_the_maker_of_a_disk_starts_nothing(store, scratch, other_usr):
    give_image(store, scratch)
    other_usr({"bin/mkfs.erofs": "#!/bin/sh\n"
               "for place in /usr/x /image/x /etc/x; do echo > $place && echo wrote $place && exit 1; done 2>&-\n"
               "exec 2>&1\n(exec /bin/true) && echo it started another program\n"})
    with pytest.raises(Failed) as failed:
        store("disk", "one", raw=True)
    assert "Cannot fork" in failed.value.text
    other_usr({"bin/mkfs.erofs": "#!/bin/sh\nexec /usr/bin/true\n"})
    with pytest.raises(Failed) as failed:
        store("disk", "one", raw=True)
    assert "Operation not permitted" in failed.value.text
    assert store.names("disks") == [] and store.names("jobs") == []


def test_a_disk_without_erofs_is_ext4(store, scratch, other_usr):
    need("mke2fs", "debugfs")
    give_image(store, scratch)
    other_usr({"bin/mkfs.erofs": None})
    reader = store.start("disk", "one")
    try:
        assert reader.stdout.read(4096), reader.stderr.read()  # the rest is 64 GB of nothing
    finally:
        reader.kill()
        reader.communicate()
    made = next((store.dir / "disks").iterdir())
    check = subprocess.run(["e2fsck", "-fn", made], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    owned = subprocess.run(["debugfs", "-R", "stat /data/owned", made], capture_output=True, text=True).stdout
    assert "User:  1000" in owned, owned


# -- kernels -------------------------------------------------------------------------------------

def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def confined_worker(process):
    """(status, names in its root, what it holds) of the import's worker, once it is in its sandbox."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        for pid in children_of(process.pid):
            with contextlib.suppress(OSError, ValueError):
                status = status_of(pid)
                if status["Name"].startswith("brume-image") and status["Seccomp"] == "2":
                    return (status, os.listdir(f"/proc/{pid}/root"),
                            {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")})
    raise AssertionError(f"no worker in a sandbox was seen: {process.poll()}")


def test_a_kernel_is_taken_apart_without_power(store, scratch, build):
    folder = need_kernel()
    source = scratch / "vmlinuz"
    source.write_bytes(pathlib.Path(glob.glob(folder + "/boot/vmlinuz-*")[0]).read_bytes())
    process = store.start("kernels", scratch / "kernels", "import", source, "one", "/nowhere",
                          env={"IMAGE_DRIVER_INIT": str(build / "brume-init")})
    status, root, held = confined_worker(process)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(NOBODYS_SLOT)}
    # chown, dac_override, fowner, fsetid and setfcap, over what its user namespace owns: nothing but `out`.
    assert int(status["CapPrm"], 16) & ~(1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31) == 0
    assert root == []
    assert set(held) <= {0, 1, 2, 3, 4, 5}, held
    made = scratch / "kernels/one"
    for path in (made, *made.rglob("*")):
        assert path.stat().st_uid == path.stat().st_gid == 0, path


LEFTOVERS = {
    "a link": "ln -s /etc/passwd /proc/self/fd/5/vmlinux",
    "a pipe": "mkfifo /proc/self/fd/5/vmlinux",
    "a folder": "mkdir /proc/self/fd/5/vmlinux",
    "a file beside it": "touch /proc/self/fd/5/vmlinux /proc/self/fd/5/initramfs.%d.tmp",
    "a link for the modules": "touch /proc/self/fd/5/vmlinux; ln -s /etc /proc/self/fd/5/modules",
    "a link among the modules":
        "cd /proc/self/fd/5; touch vmlinux; mkdir modules; touch modules/order; ln -s /etc/passwd modules/x.ko",
    "a second name": "cd /proc/self/fd/5; touch vmlinux; ln vmlinux bzImage",
    "a way out": "cd /proc/self/fd/5; touch vmlinux; mkdir modules; echo ../../../etc/passwd > modules/order",
    "no version": "cd /proc/self/fd/5; touch vmlinux; mkdir modules; touch modules/order; version='a b'",
    "no name": "cd /proc/self/fd/5; touch vmlinux; mkdir modules; touch modules/order; version=../x",
    "nothing": "true",
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_what_a_worker_that_was_taken_over_leaves(store, scratch, build, what):
    worker = scratch / "worker"
    worker.write_text(f"#!/bin/sh\nread request <&3\nversion=1\n{LEFTOVERS[what]}\n"
                      "echo '{\"type\":\"done\",\"architecture\":\"amd64\",\"version\":\"'$version'\"}' >&3\nread -r wait <&3\n")
    worker.chmod(0o755)
    store.worker = worker
    (scratch / "vmlinuz").touch()
    kernels = scratch / "kernels"
    with pytest.raises(Failed) as failed:
        store("kernels", kernels, "import", scratch / "vmlinuz", env={"IMAGE_DRIVER_INIT": str(build / "brume-init")})
    assert not os.listdir(kernels), failed.value.text
    for path in ("/etc/passwd", "/etc"):
        assert os.stat(path).st_uid == 0 and os.stat(path).st_mode & 0o444 == 0o444
