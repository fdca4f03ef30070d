#!/usr/bin/env python3
# brume-vmm boots the kernel that runs here: one CPU and four, 5 GiB, restart, panic, jail, power button; its devices carry data,
# come and go.
#
# lab: kernels=6.1,6.12 memory=2560 time=600 alone=yes default=6.1
"""Each boot says what it saw on its serial port; consoles and counters become artefacts.

The case vmm_minimal does some of it with another kernel.
"""
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time
import zlib

KERNEL = "/usr/lib/modules/vmlinuz"
MODULES = ["virtio_pci", "virtio_console", "virtio_rng", "virtio_blk", "virtio_balloon", "button", "evdev"]
MORE = ["virtio_net", "vmw_vsock_virtio_transport"]
DRIVER = os.environ["BRUME_BUILD"] + "/tests/vm-guest-driver"
HOST, GUEST = "10.78.1.1", "10.78.1.2"
# An emulated processor does not let KVM see XSETBV, so XSAVE would confuse the guest.
APPEND = "console=ttyS0 quiet noxsave 8250.nr_uarts=1"
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
line=$($b cat /proc/cmdline)
exec >/dev/ttyS0
echo "UP cpus=$($b nproc) kb=$($b awk '/MemTotal/{print $2}' /proc/meminfo) \
clock=$($b cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
case $line in *devices*)
	[ -e /modules/00 ] && for module in /modules/*; do $b insmod $module; done
	echo "VIRTIO $($b cat /sys/bus/virtio/devices/*/device | $b sort | $b tr '\\n' ' ')"
	echo "said on hvc0" >/dev/hvc0
	echo "SERIAL $($b cat /sys/block/vda/serial)"
	$b dd if=/dev/vda bs=512 count=1 2>/dev/null | $b head -c 5; echo
	echo "wrote" | $b dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null
	[ "$($b head -c 64 /dev/hwrng | $b wc -c)" = 64 ] && echo RANDOM
esac
case $line in *steps:*|*restarts*) [ -e /modules/00 ] && for module in /more/*; do $b insmod $module; done ;; esac
case $line in *queues*) echo "QUEUES $(set -- /sys/block/vda/mq/*; echo $#) $(set -- /sys/class/net/eth0/queues/rx-*; echo $#)" ;; esac
case $line in *steps:*)
	steps=${line##*steps:}
	(IFS=:; exec /bin/work ${steps%% *}) ;;
esac
case $line in
# Where there is no such key, the end of process 1 is one.
*panics*) echo c >/proc/sysrq-trigger; exit ;;
*button*)
	exec 5</dev/input/event0
	echo LISTENS
	# Type and code: 1 (a key), 116 (power).
	echo "PRESSED $($b dd bs=24 count=1 <&5 2>/dev/null | $b od -An -tu2 -j16 -N4)" ;;
*restarts*)
	# Once: the disk tells.
	[ "$($b dd if=/dev/vda bs=512 skip=2 count=1 2>/dev/null | $b head -c 5)" = again ] || {
		echo again | $b dd of=/dev/vda bs=512 seek=2 conv=fsync 2>/dev/null
		$b reboot -f
	}
	echo WAITS
	disk= card=
	while :; do
		if [ ! "$disk" ] && [ -b /dev/vdb ]; then
			disk=yes
			echo "COMES $($b cat /sys/block/vdb/serial) $($b dd if=/dev/vdb bs=512 count=1 2>/dev/null | $b head -c 5)"
			echo "wrote" | $b dd of=/dev/vdb bs=512 seek=1 conv=fsync 2>/dev/null
			echo WROTE
		elif [ "$disk" ] && [ ! -e /sys/block/vdb ]; then
			disk=; echo LEFT
		fi
		if [ ! "$card" ] && [ -e /sys/class/net/eth0 ]; then
			card=yes; /bin/work net=GUEST; echo CARD
		elif [ "$card" ] && [ ! -e /sys/class/net/eth0 ]; then
			card=; echo NOCARD
		fi
		$b sleep 0.1
	done ;;
esac
$b poweroff -f
"""
INIT = INIT.replace("GUEST", GUEST)
artefacts = pathlib.Path(os.environ["LAB_ARTEFACTS"])
work = pathlib.Path("/var/tmp/vmm")


def initramfs(modules, more):
    folder = work / "initramfs"
    for name in ("bin", "modules", "more", "proc", "sys", "dev"):
        (folder / name).mkdir(parents=True)
    (folder / "bin/busybox").write_bytes(pathlib.Path("/bin/busybox").read_bytes())
    (folder / "bin/work").write_bytes(pathlib.Path(DRIVER).read_bytes())
    (folder / "init").write_text(INIT)
    seen, first = [], 0
    for module in modules + more:
        first = len(seen) if module == more[0] else first
        for line in subprocess.run(["modprobe", "--show-depends", module], check=True, text=True,
                                   capture_output=True).stdout.splitlines():
            words = line.split()
            if words[0] == "insmod" and words[1] not in seen:
                seen.append(words[1])
    for number, path in enumerate(seen):
        place = "modules" if number < first else "more"
        (folder / f"{place}/{number:02}").write_bytes(pathlib.Path(path).read_bytes())
    for path in (folder / "init", folder / "bin/busybox", folder / "bin/work"):
        path.chmod(0o755)
    # The first console of the kernel's own, before devtmpfs.
    os.mknod(folder / "dev/console", 0o600 | 0o020000, os.makedev(5, 1))
    names = "\n".join(str(path.relative_to(folder)) for path in [folder, *sorted(folder.rglob("*"))])
    with open(work / "initrd", "wb") as out:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=folder, check=True, stdout=out,
                       input=names.encode(), stderr=subprocess.DEVNULL)


class Machine:
    """A running brume-vmm; what its serial port says grows in a file of the artefacts."""

    def __init__(self, name, words, *options):
        self.name, self.serial = name, artefacts / f"{name}.serial"
        self.log, self.metrics = artefacts / f"{name}.log", artefacts / f"{name}.metrics"
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            ["brume-vmm", "--kernel", KERNEL, "--initrd", work / "initrd", "--append", f"{APPEND} {words}",
             "--serial", self.serial, "--log", self.log, "--metrics", self.metrics, *options])

    def said(self):
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def wait_for(self, text, times=1):
        while self.said().count(text) < times:
            assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()}{self.said()}"
            time.sleep(0.2)

    def end(self, code):
        got = self.process.wait()
        print(f"{self.name}: {got} after {time.monotonic() - self.began:.1f} s: {self.log.read_text().strip()}",
              flush=True)
        assert got == code, f"{self.name} ended with {got}, not {code}: {self.log.read_text()}{self.said()}"
        return self.said()


def call(path, method, **arguments):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        peer.sendall(struct.pack("<IHHQ", len(body), 11, 0, 5) + body)
        stream = peer.makefile("rb")
        size, kind, _, number = struct.unpack("<IHHQ", stream.read(16))
        assert (kind, number) == (12, 5)
        return json.loads(stream.read(size))


def ctl(path, *words, code=0):
    done = subprocess.run(["brume-vmm", "ctl", path, *words], text=True, capture_output=True)
    assert done.returncode == code, (words, done)
    return json.loads(done.stdout or "{}") if code == 0 else done.stderr


def boots_and_finds_its_devices():
    disk = work / "disk"
    disk.write_bytes(b"DISK!".ljust(1 << 20, b"\0"))
    console = artefacts / "devices.console"
    machine = Machine("devices", "devices", "--memory", "192M,thp", "--disk", f"{disk},serial=brume-disk",
                      "--console", console, "--cpu-baseline", "x86-64-v2", "--no-reboot")
    text = machine.end(0)
    assert "UP cpus=1 " in text and "clock=kvm-clock" in text, text
    assert "SERIAL brume-disk" in text and "DISK!" in text and "RANDOM" in text, text
    assert disk.read_bytes()[512:517] == b"wrote"
    assert b"said on hvc0" in console.read_bytes() and console.stat().st_size == 16 + (64 << 10)
    counters = json.loads(machine.metrics.read_text())
    assert counters["cpus"][0]["exits"]["mmio"] > 0 and counters["kvm_cpus"].get("exits", 1) > 0
    assert {device["id"] for device in counters["devices"]} >= {"console0", "disk0", "rng0"}


def four_cpus_and_more_memory_than_the_host():
    memory = Machine("refused", "", "--memory", "5G")
    assert memory.process.wait() == 1 and "more than this host has" in memory.log.read_text()
    disk = work / "smp.disk"
    disk.write_bytes(b"DISK!".ljust(1 << 20, b"\0"))
    for words in ("tuntap add dev vmm2 mode tap vnet_hdr multi_queue", f"addr add {HOST}/24 dev vmm2", "link set vmm2 up"):
        subprocess.run(["ip", *words.split()], check=True)
    sink = subprocess.Popen([DRIVER, "sink=5001"])
    text = Machine("smp", f"devices queues steps:net={GUEST}:send={HOST},5001,1", "--cpus", "4", "--memory", "5G,overcommit,thp",
                   "--disk", f"{disk},queues=4", "--net", "tap=vmm2,queues=4", "--no-reboot").end(0)
    assert "UP cpus=4 " in text and "QUEUES 4 4" in text and "DISK!" in text and "FAILED" not in text, text
    assert sink.wait() == 0
    subprocess.run(["ip", "link", "del", "vmm2"], check=True)
    assert int(text.split("kb=")[1].split()[0]) > 4_900_000, text


def feels_its_power_button():
    sock = work / "button.sock"
    machine = Machine("button", "devices button", "--memory", "160M,thp", "--no-reboot", "--control", sock)
    machine.wait_for("LISTENS")
    assert call(sock, "power_button") == {"result": {}}
    assert machine.end(0).split("PRESSED")[1].split()[:2] == ["1", "116"]


def restart_and_panic_are_told_apart():
    common = ("--memory", "160M,thp", "--no-reboot")
    assert "UP" in Machine("restart", "restarts", *common).end(3)
    assert "Kernel panic" in Machine("panic", "panics", *common).end(4)


def devices_come_and_go(machine, sock):
    """A disk and a card, while the machine runs in its jail; a disk was there before its restart."""
    began = time.monotonic()
    disk, descriptors = work / "added.disk", pathlib.Path(f"/proc/{machine.process.pid}/fd")
    machine.wait_for("COMES S4712 ADDED")
    machine.wait_for("WROTE")
    ctl(sock, "remove", "early,timeout=60")
    machine.wait_for("LEFT")
    before = len(list(descriptors.iterdir()))
    disk.write_bytes(b"ADDED".ljust(1 << 20, b"\0"))
    added = ctl(sock, "add_disk", f"{disk},id=data,serial=S4711")
    assert (added["id"], added["serial"]) == ("data", "S4711"), added
    machine.wait_for("COMES S4711 ADDED")
    machine.wait_for("WROTE", 2)
    assert disk.read_bytes()[512:517] == b"wrote"
    assert "there is a device data already" in ctl(sock, "add_disk", f"{disk},id=data", code=1)
    assert "only disks and network cards" in ctl(sock, "remove", "console0", code=1)
    # A guest that stands still holds what it has.
    ctl(sock, "pause")
    assert "did not let go of data" in ctl(sock, "remove", "data,timeout=0", code=1)
    ctl(sock, "resume")
    ctl(sock, "remove", "data,timeout=60")
    machine.wait_for("LEFT", 2)

    for words in ("tuntap add dev vmm1 mode tap vnet_hdr", f"addr add {HOST}/24 dev vmm1", "link set vmm1 up"):
        subprocess.run(["ip", *words.split()], check=True)
    ctl(sock, "add_nic", "tap=vmm1,id=lan,mac=02:00:00:00:00:77")
    machine.wait_for("CARD")
    subprocess.run(["busybox", "ping", "-c", "3", "-w", "60", GUEST], check=True, stdout=subprocess.DEVNULL)
    ctl(sock, "remove", "lan,timeout=60")
    machine.wait_for("NOCARD")
    subprocess.run(["ip", "link", "del", "vmm1"], check=True)
    assert len(list(descriptors.iterdir())) == before
    print(f"devices came and went in {time.monotonic() - began:.1f} s", flush=True)


def restarts_in_its_jail_and_obeys():
    sock = work / "control.sock"
    disk = work / "again.disk"
    disk.write_bytes(b"DISK!".ljust(1 << 20, b"\0"))
    machine = Machine("again", "devices restarts", "--memory", "160M,thp", "--control", sock, "--disk", disk)
    while not sock.exists():
        assert machine.process.poll() is None, machine.log.read_text()
        time.sleep(0.1)
    # While it boots for the first time: the restart keeps it.
    added = work / "added.disk"
    added.write_bytes(b"ADDED".ljust(1 << 20, b"\0"))
    ctl(sock, "add_disk", f"{added},id=early,serial=S4712")
    machine.wait_for("WAITS")
    assert machine.said().count("UP cpus") == 2
    tasks = list(pathlib.Path(f"/proc/{machine.process.pid}/task").iterdir())
    assert {"cpu0", "io"} <= {(task / "comm").read_text().strip() for task in tasks}
    for task in tasks:
        status = (task / "status").read_text()
        assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status, status
    info = call(sock, "info")["result"]
    assert info["state"] == "running" and info["resets"] == 1, info
    size = info["memory_bytes"]
    call(sock, "balloon", target_bytes=size - (32 << 20))
    until = time.monotonic() + 60
    while call(sock, "balloon")["result"]["balloon_bytes"] < 32 << 20:
        assert time.monotonic() < until, call(sock, "balloon")
        time.sleep(0.2)
    print("balloon:", call(sock, "balloon"), flush=True)
    assert "error" in call(sock, "balloon", target_bytes=size + 1)
    assert call(sock, "pause") == {"result": {}}
    assert call(sock, "info")["result"]["state"] == "paused"
    assert call(sock, "resume") == {"result": {}}
    assert "error" in call(sock, "nonsense")
    devices_come_and_go(machine, sock)
    (artefacts / "again.live").write_text(json.dumps(call(sock, "metrics"), indent=1))
    machine.process.send_signal(signal.SIGTERM)
    assert call(sock, "quit") == {"result": {}}
    machine.end(0)


def checksum(data):
    return 0xffff - sum(struct.unpack(f"!{len(data) // 2}H", data)) % 0xffff


def echo_request(number):
    packet = struct.pack("!BBHHH", 8, 0, 0, 0x6272, number) + bytes(1400)
    return packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]


def ping_flood(count, window=32):
    """As many echo requests on their way as the window allows; each must come back once."""
    # The neighbour's address is found first: while it is looked for, this host may lose packets.
    subprocess.run(["busybox", "ping", "-c", "1", "-w", "60", GUEST], check=True, stdout=subprocess.DEVNULL)
    sent, answered = 0, set()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as link:
        link.settimeout(60)
        while len(answered) < count:
            while sent < count and sent - len(answered) < window:
                link.sendto(echo_request(sent), (GUEST, 0))
                sent += 1
            try:
                data = link.recv(65536)[20:]
            except TimeoutError:
                subprocess.run("ip -s link show vmm0; ip neigh", shell=True, check=False)
                raise AssertionError(f"{len(answered)} of {sent} pings were answered") from None
            if data[0] == 0 and data[4:6] == b"br":
                number, = struct.unpack("!H", data[6:8])
                assert number not in answered, f"ping {number} was answered twice"
                answered.add(number)
    print(f"{len(answered)} of {sent} pings were answered", flush=True)


def vsock_connections(path, port, count):
    """All of them open at the same time, each with an echo."""
    links = []
    for number in range(count):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(60)
        link.connect(str(path))
        link.sendall(b"CONNECT %d\n" % port)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += link.recv(1) or b"closed\n"
        assert answer.startswith(b"OK "), f"connection {number}: {answer}"
        link.sendall(b"%d" % number)
        links.append(link)
    for number, link in enumerate(links):
        got = link.recv(100)
        assert got == b"%d" % number, f"connection {number} echoed {got}"
        link.close()


def carries_data(pings=2000, connections=1000, rounds=100):
    disk, sock = work / "data.disk", work / "vsock"
    with open(disk, "wb") as out:
        out.truncate(32 << 20)
    for words in ("tuntap add dev vmm0 mode tap vnet_hdr", f"addr add {HOST}/24 dev vmm0", "link set vmm0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    sink = subprocess.Popen([DRIVER, "sink=5001"])
    machine = Machine("work", f"devices steps:verify=7,{rounds}:net={GUEST}:vsock=1024,{connections}:"
                      f"send={HOST},5001,2:sink=5002", "--memory", "192M,thp", "--disk", disk, "--net",
                      "tap=vmm0", "--vsock", f"cid=3,path={sock}", "--no-reboot")
    machine.wait_for("listening")
    ping_flood(pings)
    vsock_connections(sock, 1024, connections)
    machine.wait_for("listening", 2)
    subprocess.run([DRIVER, f"send={GUEST},5002,2"], check=True)
    text = machine.end(0)
    assert sink.wait() == 0
    subprocess.run(["ip", "link", "del", "vmm0"], check=True)
    print(*[line for line in text.splitlines() if line.startswith(("verified", "echoed", "sent", "received"))],
          sep="; ", flush=True)
    assert f"verified {zlib.crc32(disk.read_bytes()):08x}" in text, text
    assert f"echoed {connections}" in text and "FAILED" not in text, text


def prepare(modules, more):
    work.mkdir(parents=True)
    subprocess.run(["lab-kvm"], check=True)
    subprocess.run(["modprobe", "tun"], check=True)
    initramfs(modules, more)


if __name__ == "__main__":
    prepare(MODULES, MORE)
    boots_and_finds_its_devices()
    carries_data()
    feels_its_power_button()
    restart_and_panic_are_told_apart()
    restarts_in_its_jail_and_obeys()
    four_cpus_and_more_memory_than_the_host()
