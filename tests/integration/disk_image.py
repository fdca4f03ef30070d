"""A bootable disk, as small as it goes: what a cloud image is to a node, made by the test itself.

SYSLINUX from a FAT partition behind an MBR loads Debian's cloud kernel and a small initramfs, whose
init does by hand what cloud-init does: it finds the disk with the label cidata, gives the port with
the right MAC its address, runs the user data, and turns off at the power button.
"""
import glob
import os
import pathlib
import struct
import subprocess

import guest_machine
from vm_kernel import need_kernel

MODULES = ("button", "evdev", "isofs", "virtio_blk", "virtio_net", "virtio_pci")
SECTOR, START, SIZE = 512, 1 << 20, 40 << 20
COUNTER = 512 << 10  # between the MBR and the partition: how often this disk was booted

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read module; do insmod /modules/$module; done < /modules/order
exec > /dev/ttyS0 2>&1
echo "init runs"
seed=
while [ -z "$seed" ]; do
	for block in /sys/block/vd*; do
		[ "$(cat $block/serial)" = cidata ] && seed=/dev/${block##*/}
		[ "$(cat $block/serial)" = brume-disk ] && disk=/dev/${block##*/}
	done
done
mount -t iso9660 -o ro $seed /seed || echo "no seed"
value() { sed -n "s/.*\"$2\":\"\([^\"]*\)\".*/\1/p" /seed/$1; }
first() { sed -n "s/.*\"$2\":\[\"\([^\"]*\)\".*/\1/p" /seed/$1; }
hostname "$(value meta-data local-hostname)"
ip link set lo up
if [ -e /seed/network-config ]; then
	mac=$(value network-config macaddress)
	for port in /sys/class/net/*; do [ "$(cat $port/address)" = "$mac" ] && nic=${port##*/}; done
	ip link set $nic up
	ip addr add "$(sed 's/"nameservers".*//' /seed/network-config | sed -n 's/.*"addresses":\["\([^"]*\)".*/\1/p')" dev $nic
	ip route add default via "$(sed -n 's/.*"to":"0.0.0.0\/0","via":"\([^"]*\)".*/\1/p' /seed/network-config)"
fi
boots=$(dd if=$disk bs=512 skip=1024 count=1 2>/dev/null | tr -d '\0')
boots=$((${boots:-0} + 1))
(echo $boots; head -c 500 /dev/zero) | dd of=$disk bs=512 seek=1024 count=1 conv=fsync 2>/dev/null
mkdir -p /www
{ echo "host $(hostname)"; echo "instance $(value meta-data instance-id)"; echo "boots $boots"
  echo "key $(first meta-data public-keys)"; echo "bytes $(($(cat /sys/block/${disk##*/}/size) * 512))"
  echo "search $(first network-config search)"; } > /www/index.html
echo "firmware $([ -d /sys/firmware/efi ] && echo uefi || echo bios)" >> /www/index.html
case $(head -c 2 /seed/user-data) in '#!') sh /seed/user-data;; esac
httpd -h /www
echo "serves as $(hostname)"
for input in /sys/class/input/event*; do
	[ "$(cat $input/device/name)" = "Power Button" ] && button=/dev/input/${input##*/}
done
dd if=$button of=/dev/null bs=24 count=1 2>/dev/null
echo "power button"
[ -e /deaf ] && sleep 1000
sync
poweroff -f
"""


def initramfs(kernel):
    modules = guest_machine.modules_of(kernel, MODULES)
    entries = {name: None for name in ("bin", "dev", "modules", "proc", "seed", "sys", "tmp")}
    entries["bin/busybox"] = pathlib.Path("/bin/busybox").read_bytes()
    entries["init"] = INIT.encode()
    entries["modules/order"] = "".join(f"{name}.ko\n" for name, _ in modules).encode()
    for name, data in modules:
        entries[f"modules/{name}.ko"] = data
    return guest_machine.cpio(entries)


def run(*command, **more):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, **more)


def make(folder):
    """The path of a raw disk that boots."""
    kernel = need_kernel()
    folder = pathlib.Path(folder)
    disk, initrd, config = folder / "small.raw", folder / "initrd", folder / "syslinux.cfg"
    initrd.write_bytes(initramfs(kernel))
    config.write_text("DEFAULT linux\nLABEL linux\nKERNEL /vmlinuz\n"
                      "APPEND initrd=/initrd console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable\n")
    with open(disk, "wb") as out:
        out.truncate(SIZE)
    sectors = (SIZE - START) // SECTOR
    partition = f"{disk}@@{START}"
    quiet = {"env": {**os.environ, "MTOOLS_SKIP_CHECK": "1"}}
    run("mformat", "-i", partition, "-T", sectors, "-h", 16, "-s", 63, "-H", START // SECTOR, "::", **quiet)
    for source, name in ((glob.glob(kernel + "/boot/vmlinuz-*")[0], "vmlinuz"), (initrd, "initrd"),
                         (config, "syslinux.cfg")):
        run("mcopy", "-i", partition, source, f"::/{name}", **quiet)
    run("syslinux", "--install", "--offset", START, disk, **quiet)
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x0e, b"\xfe\xff\xff", START // SECTOR, sectors)
    code = pathlib.Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:440]
    with open(disk, "r+b") as out:
        out.write(code.ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa")
    return disk


# Of an application of UEFI on arm64: ConOut->OutputString(message); ResetSystem(EfiResetShutdown).
ARM64_CODE = bytes.fromhex("fd7bbea9f30b00f9f30301aa602240f9020440f94101001040003fd6632e40f9643440f9"
                           "40008052010080d2020080d2030080d280003fd600000014")


def efi_application(message):
    """What BOOTAA64.EFI has to be: a PE file of one section."""
    text = (ARM64_CODE + (message + "\r\n\0").encode("utf-16-le")).ljust(0x200, b"\0")
    header = struct.pack("<2s58xI", b"MZ", 64)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0xaa64, 1, 0, 0, 0, 240, 0x0022)
    optional = struct.pack("<HBBIIIII", 0x20b, 1, 0, 0x200, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0, 0x1000, 0x200, 0, 0, 0, 0, 0, 0, 0, 0x2000, 0x200, 0, 10, 0)
    optional += struct.pack("<QQQQII", 0, 0, 0, 0, 0, 16).ljust(240 - len(optional), b"\0")
    section = struct.pack("<8sIIIIIIHHI", b".text", 0x1000, 0x1000, 0x200, 0x200, 0, 0, 0, 0, 0x60000020)
    return (header + coff + optional + section).ljust(0x200, b"\0") + text


def make_arm64(folder, message):
    """The path of a raw disk whose only system says the message and turns the machine off."""
    folder = pathlib.Path(folder)
    disk, program = folder / "arm64.raw", folder / "BOOTAA64.EFI"
    program.write_bytes(efi_application(message))
    size, start = 8 << 20, 1 << 20
    sectors = (size - start) // SECTOR
    with open(disk, "wb") as out:
        out.truncate(size)
    partition, quiet = f"{disk}@@{start}", {"env": {**os.environ, "MTOOLS_SKIP_CHECK": "1"}}
    run("mformat", "-i", partition, "-T", sectors, "-h", 16, "-s", 63, "-H", start // SECTOR, "::", **quiet)
    run("mmd", "-i", partition, "::/EFI", "::/EFI/BOOT", **quiet)
    run("mcopy", "-i", partition, program, "::/EFI/BOOT/BOOTAA64.EFI", **quiet)
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0xef, b"\xfe\xff\xff", start // SECTOR, sectors)
    with open(disk, "r+b") as out:
        out.write(bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa")
    return disk
