"""brume-vmm: small machines made and ended, its start and memory; beside QEMU's microvm, its devices.

On any host with /dev/kvm: machines whose guest is a few instructions in ring 3, and what a machine costs
before its guest runs.  Devices need a real kernel, and that a KVM that runs ring 0 at speed: the lab
(tests/lab/run --build DIR --kernel 6.1 bench_vmm), or any server with one.  bench_vmm_boots.py has the boots.
"""
import glob
import os
import pathlib
import re
import selectors
import shutil
import statistics
import subprocess
import threading
import time

import guest_machine
from common import Skip

DEBUGFS = pathlib.Path("/sys/kernel/debug/kvm")
MODULES = ["virtio_pci", "virtio_mmio", "virtio_console", "virtio_rng", "virtio_blk", "virtio_net"]
# An emulated processor does not let KVM see XSETBV, so XSAVE would confuse the guest.
APPEND = "quiet panic=-1 noxsave 8250.nr_uarts=0"
GUEST_MIB = 256
BOOT_TIMEOUT_S = 300
HOST_ADDRESS, GUEST_ADDRESS = "10.99.0.1", "10.99.0.2"


class Devices:
    """What both sides have: a disk, a card, and under brume-vmm vsock (QEMU's is the kernel's)."""

    def __init__(self, bench):
        self.disk = bench.in_memory("disk-") / "disk"
        with open(self.disk, "wb") as out:
            for _ in range(64):
                out.write(os.urandom(1 << 20))
        self.vsock = bench.scratch / "vsock"
        self.tap = "bench0"
        subprocess.run(["ip", "tuntap", "add", "dev", self.tap, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run(["ip", "addr", "add", HOST_ADDRESS + "/24", "dev", self.tap], check=True)
        subprocess.run(["ip", "link", "set", self.tap, "up"], check=True)


def brume(bench, devices, kernel, initrd, append, *more, memory=f"{GUEST_MIB}M,thp"):
    devices.vsock.unlink(missing_ok=True)
    return [bench.build / "brume-vmm", "--kernel", kernel, *(["--initrd", initrd] if initrd else []),
            "--append", append, "--memory", memory, "--serial", "fd:1", "--no-reboot",
            "--disk", devices.disk, "--net", f"tap={devices.tap}",
            "--vsock", f"cid=3,path={devices.vsock}", *more]


def qemu(devices, kernel, initrd, append, *more, options="", transport="device"):
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-M", "microvm" + options, "-accel", "kvm", "-cpu", "host", "-m", str(GUEST_MIB),
             "-global", "virtio-mmio.force-legacy=false", "-serial", "file:/dev/stdout",
             "-kernel", kernel, "-append", append]
    words += ["-initrd", initrd] if initrd else []
    drive = f"file={devices.disk},format=raw,if=none,id=disk,aio=io_uring"
    words += ["-drive", drive, "-device", f"virtio-blk-{transport},drive=disk",
              "-netdev", f"tap,id=net,ifname={devices.tap},script=no,downscript=no,vhost=off",
              "-device", f"virtio-net-{transport},netdev=net", "-device", f"virtio-rng-{transport}",
              "-device", f"virtio-serial-{transport}", "-chardev", "null,id=console",
              "-device", "virtconsole,chardev=console"]
    return [*words, *more]


class Run:
    """A running machine; what its serial port says is read by need."""

    def __init__(self, words):
        self.began = time.perf_counter()
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, bufsize=0)
        self.text = ""

    def wait_for(self, text, seconds=BOOT_TIMEOUT_S, times=1):
        """Seconds since the start when it was said (so many times)."""
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        deadline = time.perf_counter() + seconds
        while self.text.count(text) < times:
            if not selector.select(max(0, deadline - time.perf_counter())):
                raise RuntimeError(f"{self.process.args[0]}: no '{text}' after {seconds} s: {self.text}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data or "FAILED" in self.text:
                raise RuntimeError(f"{self.process.args[0]} ended: {self.text}")
            self.text += data.decode(errors="replace")
        return time.perf_counter() - self.began

    def exits(self):
        """KVM's counters of the machine, from debugfs: the same for everybody who uses KVM."""
        folder, = DEBUGFS.glob(f"{self.process.pid}-*")
        return {path.name: int(path.read_text()) for path in folder.iterdir()
                if path.is_file() and re.fullmatch(r"\d+", path.read_text().strip())}

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def again(bench, once, attempts=3):
    """What `once` returns.  A machine that ends on its own is told of and made anew: under a KVM that is
    itself emulated that happens to either side now and then."""
    for number in range(1, attempts + 1):
        try:
            return once()
        except RuntimeError as why:
            if number == attempts:
                raise
            bench.note(f"once more: {str(why).strip()}")


def tasks(pid):
    """[(state, run time in ns)] of each thread."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        found.append((state, int((task / "schedstat").read_text().split()[0])))
    return found


def wait_asleep(pid, threads):
    """Until it has so many threads and none runs: twice, so that none has just begun."""
    quiet = 0
    while quiet < 3:
        time.sleep(0.002)
        now = tasks(pid)
        quiet = quiet + 1 if len(now) >= threads and all(state == "S" for state, _ in now) else 0
    return sum(ns for _, ns in now)


def own_pss_kib(pid, guest_mib):
    """The process without its guest's memory: what is kept out of core dumps, or at least half its size."""
    total = pss = size = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "Size:":
            size = int(words[1])
        elif words[0] == "Pss:":
            pss = int(words[1])
        elif words[0] == "VmFlags:" and "dd" not in words and size < guest_mib * 1024 // 2:
            total += pss
    return total


def make_kernel(bench):
    """Debian's cloud kernel as an ELF and the modules that the guest needs, in order."""
    if os.environ.get("LAB"):
        packed = "/usr/lib/modules/vmlinuz"
        modules = f"/usr/lib/modules/{os.uname().release}"
    else:
        folder = guest_machine.kernel()
        if not folder:
            raise Skip("Debian's cloud kernel is not here: tools/fetch_kernel")
        packed, = glob.glob(folder + "/boot/vmlinuz-*")
        modules, = glob.glob(folder + "/lib/modules/*")
    store = bench.scratch / "kernels"
    subprocess.run([bench.build / "tests/kernel-driver", store, packed, modules,
                    bench.build / "brume-init", bench.build / "brume-image-worker"], check=True, stdout=subprocess.DEVNULL)
    found, = (path for path in store.glob("*/vmlinux") if not path.parent.is_symlink())
    return found, modules


def make_initrd(bench, modules):
    files = {}
    for path in glob.glob(modules + "/**/*.ko*", recursive=True):
        files[os.path.basename(path).partition(".")[0].replace("-", "_")] = pathlib.Path(path)
    order = []

    def add(name):
        if name not in files or name in order:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for other in depends[1].decode().split(",") if depends else []:
            add(other.replace("-", "_"))
        order.append(name)
    for name in MODULES:
        add(name)
    entries = {"dev": None, "modules": None,
               "init": (bench.build / "tests/vm-guest-driver").read_bytes()}
    for number, name in enumerate(order):
        entries[f"modules/{number:02}-{name}"] = files[name].read_bytes()
    target = bench.scratch / "initrd"
    target.write_bytes(guest_machine.cpio(entries))
    return target


# ---- without a kernel ----

def measure_life(bench, devices):
    """Whole machines with a disk, a card, a console and vsock: made, run in ring 3, ended."""
    tiny, cores = bench.floor("vm-tiny"), os.cpu_count()
    seconds = 2 if bench.quick else 10

    def lives(worker, count):
        vsock = bench.scratch / f"vsock-{worker}"
        words = [bench.build / "brume-vmm", "--kernel", tiny, "--memory", "64M", "--disk",
                 f"{devices.disk},ro", "--vsock", f"cid=3,path={vsock}", "--log", "/dev/null"]
        if worker == 0:
            words += ["--net", f"tap={devices.tap}"]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            vsock.unlink(missing_ok=True)
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
            count[worker] += 1
    counts = [0] * cores
    workers = [threading.Thread(target=lives, args=(worker, counts)) for worker in range(cores)]

    def all_of_them():
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    wall, spent = bench.cpu_of_children(all_of_them)
    bench.rate("machines made, run in ring 3 and ended, per core", sum(counts) / wall / cores, 20, "/s")
    bench.note(f"each of them takes {spent / sum(counts) * 1000:.1f} ms of processor time")


def measure_start(bench, devices, kernel, name, memory=f"{GUEST_MIB}M"):
    """Processor time until the guest would run: it waits there, with everything made and jailed."""
    times, sizes = [], []
    for number in range(bench.rounds(20) + 1):
        run = Run(brume(bench, devices, kernel, None, APPEND, "--paused", memory=memory))
        try:
            spent = wait_asleep(run.process.pid, 3)
            if number > 0:  # the first one brings the kernel into the page cache
                times.append(spent)
                sizes.append(own_pss_kib(run.process.pid, GUEST_MIB))
        finally:
            run.end()
    bench.bound(f"processor time from exec to the first KVM_RUN, {name}",
                statistics.median(times) / 1e6, 5, "ms")
    return statistics.median(sizes)


# ---- with one ----

def traffic(bench, words, seconds):
    """The numbers of one machine: reads, MB/s out of it and into it, and its own memory after that."""
    run = Run(words)
    driver = bench.build / "tests/vm-guest-driver"
    sink = subprocess.Popen([driver, "sink=5001"], stdout=subprocess.DEVNULL)
    try:
        run.wait_for("read ")
        run.wait_for("sent ")
        run.wait_for("listening")
        into = subprocess.run([driver, f"send={GUEST_ADDRESS},5002,{seconds}"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        run.wait_for("received")
        return {"reads": float(re.search(r"read (\d+)", run.text)[1]),
                "out": float(re.search(r"sent (\d+)", run.text)[1]),
                "in": float(re.search(r"sent (\d+)", into)[1]),
                "kib": own_pss_kib(run.process.pid, GUEST_MIB)}
    finally:
        run.end()
        sink.kill()
        sink.wait()


def measure_devices(bench, devices, kernel, initrd):
    seconds = 1 if bench.quick else 5
    steps = (f"ready modules net={GUEST_ADDRESS} read=8,{seconds} send={HOST_ADDRESS},5001,{seconds} "
             "sink=5002 wait")
    sides = ["brume-vmm", "QEMU microvm", "QEMU microvm, PCI"]
    found = {side: [] for side in sides}
    for number in range(bench.rounds(3)):
        for side in sides if number % 2 == 0 else reversed(sides):
            append = f"{APPEND} -- {steps}"
            if side == "brume-vmm":
                words = brume(bench, devices, kernel, initrd, append)
            elif side == "QEMU microvm":
                words = qemu(devices, kernel, initrd, append)
            else:
                words = qemu(devices, kernel, initrd, append, options=",pcie=on", transport="pci")
            found[side].append(again(bench, lambda words=words: traffic(bench, words, seconds)))
    for side in ("brume-vmm", "QEMU microvm"):
        mib = statistics.median(row["kib"] for row in found[side]) / 1024
        if side == "brume-vmm":
            bench.bound("memory beyond the guest's, after traffic on all devices", mib, 3, "MB")
        else:
            bench.note(f"QEMU beyond its guest's memory: {mib:.1f} MB")
    names = {"reads": ("virtio-blk, random reads of 4 KiB, 8 at a time", "/s"),
             "out": ("virtio-net, TCP out of the guest", "MB/s"),
             "in": ("virtio-net, TCP into the guest", "MB/s")}
    for key, (what, unit) in names.items():
        middle = {side: statistics.median(row[key] for row in rows) for side, rows in found.items()}
        bench.at_least(what, middle["brume-vmm"], middle["QEMU microvm"], 1, "QEMU microvm", unit)
        bench.note(f"{what}: " + ", ".join(f"{side} {value:.0f}" for side, value in middle.items()))


def run(bench):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("there is no /dev/kvm")
    devices = Devices(bench)
    kernel, modules = make_kernel(bench)
    measure_life(bench, devices)
    size = measure_start(bench, devices, kernel, "Debian's kernel")
    bench.bound("memory beyond the guest's, before it runs (PSS)", size / 1024, 3, "MB")
    # Huge pages: the kernel is copied then, which makes up for it with the first thousand exits.
    measure_start(bench, devices, kernel, "Debian's kernel, thp", f"{GUEST_MIB}M,thp")
    minimal = bench.build / "brume-minimal-vmlinux"
    if minimal.exists():
        measure_start(bench, devices, minimal, "the minimal kernel, thp", f"{GUEST_MIB}M,thp")
    if not os.environ.get("LAB"):
        bench.note("no devices: they are measured in the lab (tests/lab/run bench_vmm)")
        return
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("QEMU is not installed")
    initrd = make_initrd(bench, modules)
    measure_devices(bench, devices, kernel, initrd)
