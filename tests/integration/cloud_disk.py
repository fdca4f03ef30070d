"""A cloud image as clouds have them: Debian with its own kernel, a boot loader, cloud-init and an ssh server.

mmdebstrap makes the system from this machine's own apt sources; nothing of it is adapted to brume.  SYSLINUX in a
FAT partition behind an MBR loads kernel and initramfs, the second partition is the root, which cloud-init lets grow.
It takes minutes, so the disk is kept where the lab keeps its disks, under the name of what it was made from.
"""
import os
import pathlib
import shutil
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/lab"))

from labkit import cache, rootdisk  # noqa: E402
from labkit.tool import megabytes, run  # noqa: E402

PACKAGES = ("systemd-sysv", "systemd-resolved", "dbus", "udev", "kmod", "linux-image-cloud-amd64", "initramfs-tools",
            "cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs", "netplan.io", "openssh-server", "sudo", "iproute2",
            "procps")
SECTOR, MIB = 512, 1 << 20
BOOT_START, BOOT_MIB = MIB, 96
ROOT_START = BOOT_START + BOOT_MIB * MIB

# An initramfs with what a virtual machine's root needs, as images for clouds have it.
SETUP = r"""set -eu; cd "$1"; mkdir -p etc/initramfs-tools/conf.d
echo MODULES=list >etc/initramfs-tools/conf.d/cloud
printf 'virtio_pci\nvirtio_blk\next4\n' >etc/initramfs-tools/modules"""
CUSTOMIZE = r"""set -eu; cd "$1"
echo "LABEL=root / ext4 defaults 0 1" >etc/fstab
echo localhost >etc/hostname
: >etc/machine-id
rm -f etc/ssh/ssh_host_* var/cache/apt/archives/*.deb var/lib/apt/lists/*_*
chroot . systemctl enable systemd-networkd systemd-resolved ssh >/dev/null 2>&1
ln -sf ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf"""


def _system(work):
    tree = work / "tree"
    run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--include=" + ",".join(PACKAGES),
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", f"--setup-hook={SETUP}", f"--customize-hook={CUSTOMIZE}",
        rootdisk._codename(), tree, *rootdisk._sources())
    return tree


def _boot_partition(disk, tree, work):
    config = work / "syslinux.cfg"
    config.write_text("DEFAULT linux\nLABEL linux\nKERNEL /vmlinuz\n"
                      "APPEND initrd=/initrd.img root=LABEL=root ro console=ttyS0 no_timer_check\n")
    partition, environment = f"{disk}@@{BOOT_START}", {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    run("mformat", "-i", partition, "-T", BOOT_MIB * MIB // SECTOR, "-h", 16, "-s", 63, "-H", BOOT_START // SECTOR, "::",
        env=environment)
    kernel, initrd = next(tree.glob("boot/vmlinuz-*")), next(tree.glob("boot/initrd.img-*"))
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd.img"), (config, "syslinux.cfg")):
        run("mcopy", "-i", partition, source, f"::/{name}", env=environment)
    run("syslinux", "--install", "--offset", BOOT_START, disk)


def _entry(active, kind, start, size):
    return struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start // SECTOR, size // SECTOR)


def _make(work):
    tree = _system(work)
    root_mib = megabytes(tree) * 5 // 4 + 128
    disk = work / "disk.raw"
    with open(disk, "wb") as out:
        out.truncate(ROOT_START + (root_mib + 1) * MIB)
    _boot_partition(disk, tree, work)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", 1, "-E",
        f"offset={ROOT_START},root_owner=0:0,lazy_itable_init=1,nodiscard", "-d", tree, disk, f"{root_mib}M")
    with open(disk, "r+b") as out:
        code = pathlib.Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:440]
        table = _entry(0x80, 0x0e, BOOT_START, BOOT_MIB * MIB) + _entry(0, 0x83, ROOT_START, root_mib * MIB)
        out.write(code.ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa")
    run("qemu-img", "convert", "-O", "qcow2", disk, work / "cloud.qcow2")
    disk.unlink()
    shutil.rmtree(tree)


def get():
    """A descriptor of the qcow2, made when it is missing."""
    parts = [PACKAGES, rootdisk._codename(), pathlib.Path(__file__).read_text(),
             run("apt-cache", "policy", *PACKAGES).splitlines()]
    return cache.entry("cloud", parts, _make)["cloud.qcow2"]
