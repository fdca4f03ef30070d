"""Disks and kernels of virtual machines, as image/ makes them, without the daemons."""
import glob
import gzip
import io
import json
import os
import pathlib
import struct
import subprocess
import tarfile

import images
import pytest
from test_image_store import Failed, Store
from vm_kernel import need_kernel


@pytest.fixture
def store(build, scratch):
    (scratch / "in-use").touch()
    return Store(build, scratch)


def test_image_disk_is_what_the_image_is(store, scratch):
    """Owners, modes, links and merged layers; made once; gone with the image."""
    layout = scratch / "layout"
    images.layered().write_layout(layout)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        out.add(layout, ".")
    store("import", "one", "layered", data=tar.getvalue())
    disk = scratch / "disk.img"
    disk.write_bytes(store("disk", "one", raw=True))
    assert store.names("jobs") == [] and len(store.names("disks")) == 1
    made = next((store.dir / "disks").iterdir())
    before = made.stat().st_ino
    assert made.stat().st_uid == 0 and made.stat().st_mode & 0o777 == 0o400
    store("disk", "one", raw=True)
    assert made.stat().st_ino == before, "made twice"
    listing = subprocess.run(["dump.erofs", "--ls", "--path=/data", disk], capture_output=True,
                             text=True)
    assert listing.returncode == 0, listing.stderr
    owned = subprocess.run(["dump.erofs", "--path=/data/owned", disk], capture_output=True,
                           text=True).stdout
    assert "Uid: 1000" in owned.replace("  ", " "), owned
    store("gc")
    assert len(store.names("disks")) == 1
    store("remove", "one")
    store("gc")
    assert store.names("disks") == []


def test_image_disk_of_an_instance(store, scratch):
    disk = scratch / "disk"
    store("empty", disk, str(10 << 30))
    stat = disk.stat()
    assert stat.st_size == 10 << 30 and stat.st_blocks * 512 < 16 << 20
    check = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    with pytest.raises(Failed) as failed:
        store("empty", disk, str(10 << 30))
    assert "File exists" in failed.value.text
    with pytest.raises(Failed) as failed:
        store("empty", scratch / "small", "1000")
    assert "at least 16 MiB" in failed.value.text
    assert not list(scratch.glob("*.new"))


def test_kernel_store(store, scratch, build):
    """Import of files and of a package, names, the default, and what is refused."""
    folder = need_kernel()
    kernels = str(scratch / "kernels")
    env = {"IMAGE_DRIVER_INIT": str(build / "brume-init")}

    def call(*args):
        return store("kernels", kernels, *args, env=env)

    vmlinuz = glob.glob(folder + "/boot/vmlinuz-*")[0]
    modules = glob.glob(folder + "/lib/modules/*")[0]
    version = os.path.basename(modules)
    assert call("list") == []
    meta = call("import", vmlinuz, "", modules)
    assert meta["name"] == meta["version"] == version and meta["architecture"] == "amd64"
    here = pathlib.Path(kernels) / version
    assert (here / "vmlinux").read_bytes()[:4] == b"\x7fELF"
    assert (here / "bzImage").read_bytes() == pathlib.Path(vmlinuz).read_bytes()
    order = (here / "modules/order").read_text().split()
    assert order.index("virtio.ko") < order.index("virtio_blk.ko")
    assert {"erofs.ko", "overlay.ko", "virtio_console.ko"} <= set(order)
    initramfs = (here / "initramfs").read_bytes()
    assert initramfs[:6] == b"070701" and b"modules/virtio_blk.ko\0" in initramfs
    with pytest.raises(Failed) as failed:
        call("import", vmlinuz, "", modules)
    assert "is there already" in failed.value.text

    # An ELF is taken as it is; the default stays with the first.
    call("import", str(here / "vmlinux"), "plain", "/nowhere")
    listed = call("list")
    assert [(k["name"], k["default"]) for k in listed] == [(version, True), ("plain", False)]
    assert call("open") == version
    call("default", "plain")
    assert call("open") == "plain" and call("open", version) == version
    with pytest.raises(Failed) as failed:
        call("delete", "plain")
    assert "is the default" in failed.value.text
    call("delete", version)
    call("delete", "plain")
    assert call("list") == [] and not os.listdir(kernels)

    # What is none.
    (scratch / "text").write_text("no kernel\n" * 200)
    (scratch / "cut").write_bytes(pathlib.Path(vmlinuz).read_bytes()[:1000000])
    (scratch / "bad.deb").write_bytes(b"!<arch>\nnothing")
    for source, words in (("text", "not a Linux kernel"), ("cut", "cut off"),
                          ("bad.deb", "package"), ("missing", "No such file")):
        with pytest.raises(Failed) as failed:
            call("import", str(scratch / source))
        assert words in failed.value.text, failed.value.text
    for name in ("../x", "default", ".x", "a b", "x" * 64):
        with pytest.raises(Failed) as failed:
            call("import", vmlinuz, name)
        assert "is no name" in failed.value.text
    assert not os.listdir(kernels)


def test_kernel_from_a_package(store, scratch, build):
    folder = need_kernel()
    tree = scratch / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: linux-image-test\nVersion: 1\nArchitecture: amd64\n"
                                         "Maintainer: x <x@example.org>\nDescription: a kernel\n")
    version = os.path.basename(glob.glob(folder + "/lib/modules/*")[0])
    (tree / "boot").mkdir()
    subprocess.run(["cp", f"{folder}/boot/vmlinuz-{version}", tree / "boot"], check=True)
    for part in ("kernel/drivers/virtio", "kernel/drivers/block"):
        target = tree / "lib/modules" / version / part
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", f"{folder}/lib/modules/{version}/{part}", target], check=True)
    subprocess.run(["xz", "-T1", "-0", "--check=crc32", tree / "lib/modules" / version /
                    "kernel/drivers/virtio/virtio.ko"], check=True)
    package = scratch / "linux-image-test.deb"
    subprocess.run(["dpkg-deb", "-Zxz", "-z0", "-b", tree, package], check=True, capture_output=True)
    kernels = scratch / "kernels"
    meta = store("kernels", str(kernels), "import", str(package),
                 env={"IMAGE_DRIVER_INIT": str(build / "brume-init")})
    assert meta["name"] == version
    order = (kernels / version / "modules/order").read_text().split()
    assert "virtio.ko" in order and "virtio_blk.ko" in order
    # What was compressed is plain now: the kernel may not know how.
    assert (kernels / version / "modules/virtio.ko").read_bytes()[:4] == b"\x7fELF"
    assert not (kernels / version / "all").exists()
    assert json.loads((kernels / version / "meta.json").read_text())["source"] == str(package)


# -- kernels of another architecture --------------------------------------------------------------

def arm64_image(version):
    """What the store knows an Image of arm64 by: the header's magic, and the kernel's words about itself."""
    image = bytearray(65536)
    image[24], image[56:60] = 0x0a, b"ARM\x64"
    words = b"Linux version %s (us@here)\0" % version.encode()
    image[4096:4096 + len(words)] = words
    return bytes(image)


def zboot(image):
    """The EFI program that newer distributions ship."""
    packed = gzip.compress(image)
    return b"MZ\0\0zimg" + struct.pack("<II", 512, len(packed)) + b"\0\0\0\0\0\0\0\0gzip".ljust(496, b"\0") + packed


def test_kernels_of_two_architectures(store, scratch, build):
    init, kernels = scratch / "brume-init", str(scratch / "kernels")
    init.write_bytes((build / "brume-init").read_bytes())

    def call(*args):
        return store("kernels", kernels, *args, env={"IMAGE_DRIVER_INIT": str(init)})

    def refused(words, *args):
        with pytest.raises(Failed) as failed:
            call(*args)
        assert words in failed.value.text, failed.value.text
        assert len(failed.value.text.strip().splitlines()) == 1

    for name, data in (("plain", arm64_image("6.1-one")), ("packed", gzip.compress(arm64_image("6.1-two"))),
                       ("efi", zboot(arm64_image("6.1-three")))):
        (scratch / name).write_bytes(data)
    # Without its first process a machine cannot be started.
    refused("brume-init-arm64 is not there", "import", str(scratch / "plain"), "", "/nowhere")
    assert not os.listdir(kernels)
    (scratch / "brume-init-arm64").write_bytes(b"another init")
    for source, version in (("plain", "6.1-one"), ("packed", "6.1-two"), ("efi", "6.1-three")):
        meta = call("import", str(scratch / source), "", "/nowhere")
        assert (meta["name"], meta["architecture"]) == (version, "arm64")
        here = pathlib.Path(kernels) / version
        assert (here / "vmlinux").read_bytes() == arm64_image(version)
        assert not (here / "bzImage").exists()
        assert b"another init" in (here / "initramfs").read_bytes()

    # Each architecture has a default of its own.
    elf = bytearray(b"\x7fELF\2\1\1".ljust(4096, b"\0"))
    elf[18] = 62
    (scratch / "elf").write_bytes(bytes(elf) + b"Linux version 6.1-own (us@here)\0")
    assert call("import", str(scratch / "elf"), "", "/nowhere")["architecture"] == "amd64"
    assert [(k["name"], k["default"]) for k in call("list")] == [
        ("6.1-one", True), ("6.1-own", True), ("6.1-three", False), ("6.1-two", False)]
    assert call("open", "") == call("open", "", "amd64") == "6.1-own"
    assert call("open", "", "arm64") == "6.1-one"
    call("default", "6.1-two")
    assert call("open", "", "arm64") == "6.1-two" and call("open", "") == "6.1-own"
    refused("the kernel 6.1-own is for amd64, the image for arm64", "open", "6.1-own", "arm64")
    refused("the kernel 6.1-two is for arm64, the image for amd64", "open", "6.1-two", "amd64")
    refused("6.1-two is the default", "delete", "6.1-two")
    (scratch / "brume-init-arm64").write_bytes(b"a newer init")
    assert call("open", "", "arm64") == "6.1-two"
    assert b"a newer init" in (pathlib.Path(kernels) / "6.1-two/initramfs").read_bytes()
    (scratch / "brume-init-arm64").unlink()
    refused("brume-init-arm64 is not there", "open", "", "arm64")
    call("delete", "6.1-own")
    for name in ("6.1-one", "6.1-three", "6.1-two"):
        call("delete", name)
    assert call("list") == [] and not os.listdir(kernels)


def test_what_is_no_kernel_of_arm64(store, scratch, build):
    image = arm64_image("6.1")
    big = bytearray(image)
    big[24] |= 1
    elf = bytearray(b"\x7fELF\2\1\1".ljust(4096, b"\0"))
    elf[18] = 183
    for number, (data, words) in enumerate((
            (gzip.compress(b"text" * 100), "not a Linux kernel image of arm64"),
            (zboot(image)[:520], "cut off"), (zboot(b"x" * 65536), "not a Linux kernel image of arm64"),
            (gzip.compress(image)[:-4] + b"\xff\xff\xff\x7f", "MiB large"),
            (bytes(big), "big-endian"), (bytes(elf), "arch/arm64/boot/Image"),
            (bytes(elf[:18]) + b"\xf3" + bytes(elf[19:]), "neither a kernel of amd64 nor of arm64"))):
        source = scratch / f"source{number}"
        source.write_bytes(data)
        with pytest.raises(Failed) as failed:
            store("kernels", str(scratch / "kernels"), "import", str(source), "one", "/nowhere",
                  env={"IMAGE_DRIVER_INIT": str(build / "brume-init")})
        assert words in failed.value.text, failed.value.text
        assert not os.listdir(scratch / "kernels")
