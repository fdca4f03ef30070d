"""Debian's kernels: fetched with apt, not installed; the image, an initramfs, a disk of modules."""
import lzma
import os
import pathlib
import re
import subprocess

from labkit import cache
from labkit.tool import Broken, make_disk, megabytes, run

META = {"6.1": "linux-image-cloud-amd64", "6.12": "linux-image-6.12-cloud-amd64"}
# What the server needs from the start; a kernel may have some of it built in.
EARLY = ("virtio_pci", "virtio_blk", "virtio_console")
INIT = pathlib.Path(__file__).resolve().parents[1] / "guest/init"


def _depends(name):
    try:
        return re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "--important", name))
    except Broken:
        return None


def package(kernel):
    """The versioned package that a meta package stands for today, as (name, version)."""
    found = _depends(META[kernel])
    if not found and os.geteuid() == 0:
        run("apt-get", "-q", "update")  # a machine whose lists were never fetched
        found = _depends(META[kernel])
    if not found:
        raise Broken(f"apt knows no {META[kernel]}; the lab needs Debian 12's main archive (apt-get update)")
    shown = run("apt-cache", "show", "--no-all-versions", found[1])
    return found[1], re.search(r"^Version: (\S+)", shown, re.M)[1]


def _unpack_modules(folder):
    """Modules that the guest need not decompress."""
    for path in folder.rglob("*.ko.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()


def _early_modules(folder):
    """The paths of the modules that the initramfs loads, in order."""
    needs, order = {}, []
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    for name in EARLY:
        for path in needs:
            if pathlib.PurePath(path).stem == name:
                order += [*reversed(needs[path]), path]
    return [folder / path for path in dict.fromkeys(order)]


def _initramfs(folder, modules, target):
    for name in ("bin", "modules", "proc", "sys", "dev", "root"):
        (folder / name).mkdir(parents=True)
    for source, place in (("/bin/busybox", "bin/busybox"), (INIT, "init")):
        data = pathlib.Path(source).read_bytes()
        (folder / place).write_bytes(data)
        (folder / place).chmod(0o755)
    for number, path in enumerate(modules):
        (folder / f"modules/{number:02}-{path.name}").write_bytes(path.read_bytes())
    names = "\n".join(str(path.relative_to(folder)) for path in [folder, *sorted(folder.rglob("*"))])
    with open(target, "wb") as out:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc", "-R", "0:0"], cwd=folder, check=True,
                       input=names.encode(), stdout=out, stderr=subprocess.DEVNULL)


def _make(name, work):
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name, cwd=work)
    deb, = work.glob("*.deb")
    tree = work / "tree"
    run("dpkg-deb", "-x", deb, tree)
    deb.unlink()
    image, = tree.glob("boot/vmlinuz-*")
    image.rename(work / "vmlinuz")
    modules, = tree.glob("lib/modules/*")
    _unpack_modules(modules)
    run("depmod", "-b", tree, modules.name)
    # For guests inside of the server, as /usr/lib/modules/vmlinuz.
    (modules.parent / "vmlinuz").write_bytes((work / "vmlinuz").read_bytes())
    _initramfs(tree / "initramfs", _early_modules(modules), work / "initrd")
    make_disk(modules.parent, work / "modules.img", megabytes(modules) + 48, "-O", "^has_journal")
    run("rm", "-rf", tree)


def get(kernel):
    """Descriptors of vmlinuz, initrd and modules.img of a kernel, made when they are missing."""
    name, version = package(kernel)
    parts = [name, version, INIT.read_text(), pathlib.Path(__file__).read_text(),
             os.stat("/bin/busybox").st_size]

    def make(work):
        print(f"lab: fetching {name}", flush=True)
        _make(name, work)
    return cache.entry(f"kernel-{kernel}", parts, make)
