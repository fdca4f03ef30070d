"""A network card of brume-vmm beside QEMU's, without vhost: TCP out of the guest and into it, and what a megabyte takes.

Where KVM runs ring 0 at speed: the lab (tests/lab/run --build DIR --kernel 6.1 bench_vmm_net), or any server.  All machines
are booted once and carry data in turns, so that a few minutes give many rounds.  What a megabyte out of the guest takes is
counted from outside, alike for all: KVM's counters, packets on the tap, processor time of the CPU's thread and of the others.
A second brume-vmm, `brume-vmm-before` in the build folder, takes part when it is there: what a change is worth.
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from bench_vmm import APPEND, Run, again, make_initrd, make_kernel
from common import Skip

MIB = 256
COUNTED = ("exits", "mmio_exits", "io_exits", "halt_exits", "irq_exits", "irq_injections", "request_irq_exits", "signal_exits")


class Side:
    """A machine, its tap device and its subnet."""

    def __init__(self, name, number, words):
        self.name, self.words = name, words
        self.tap, self.host, self.guest = f"bench{number}", f"10.99.{number}.1", f"10.99.{number}.2"
        self.run, self.rounds = None, []
        subprocess.run(["ip", "tuntap", "add", "dev", self.tap, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run(["ip", "addr", "add", self.host + "/24", "dev", self.tap], check=True)
        subprocess.run(["ip", "link", "set", self.tap, "up"], check=True)

    def boot(self, kernel, initrd, rounds, seconds):
        # The kernel takes 32 words for its first process.
        steps = " ".join(["ready", "modules", f"net={self.guest}",
                          *[f"sink=5002 send={self.host},5001,{seconds}"] * rounds, "wait"])
        self.run = Run(self.words(self.tap, kernel, initrd, f"{APPEND} -- {steps}"))
        self.run.wait_for("listening")

    def end(self):
        if self.run:
            self.run.end()

    def counters(self):
        """What grows with the traffic; packets are named as the guest sees them."""
        found = {name: value for name, value in self.run.exits().items() if name in COUNTED}
        # Bytes, packets, six more of what came; then the same of what went.
        tap = re.search(rf"\b{self.tap}: *([\d ]+)", pathlib.Path("/proc/net/dev").read_text())[1].split()
        found["bytes"], found["sent"], found["received"] = int(tap[0]), int(tap[1]), int(tap[9])
        found["cpu_ns"] = found["others_ns"] = found["switches"] = 0
        for task in pathlib.Path(f"/proc/{self.run.process.pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            which = "cpu_ns" if re.match(r"cpu\d|CPU \d", name) else "others_ns"
            found[which] += int((task / "schedstat").read_text().split()[0])
            if which == "others_ns":
                found["switches"] += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text())[1])
        return found

    def carry(self, driver, number, seconds):
        """One round, into the guest and then out of it."""
        sink = subprocess.Popen([driver, "sink=5001"], stdout=subprocess.PIPE, text=True)
        try:
            sink.stdout.readline()
            into = subprocess.run([driver, f"send={self.guest},5002,{seconds}"], check=True, stdout=subprocess.PIPE, text=True)
            self.run.wait_for("received", times=number + 1)
            before, began = self.counters(), time.perf_counter()
            self.run.wait_for("MB/s", times=number + 1)
            after, took = self.counters(), time.perf_counter() - began
            said = re.findall(r"sent (\d+) MB/s", self.run.text)[number]
            self.rounds.append({"in": float(re.search(r"sent (\d+)", into.stdout)[1]), "out": float(said), "took": took,
                                **{name: after[name] - before[name] for name in after}})
        finally:
            sink.kill()
            sink.wait()

    def middle(self, name):
        return statistics.median(row[name] for row in self.rounds)

    def per_megabyte(self, name):
        return statistics.median(row[name] / row["bytes"] * 1e6 for row in self.rounds)

    def describe(self):
        rate, sent = self.middle("out"), self.per_megabyte("sent")
        rates = " ".join(f"{row['out']:.0f}" for row in self.rounds)
        counted = ", ".join(f"{name} {self.per_megabyte(name):.0f}" for name in COUNTED if self.per_megabyte(name) >= 0.5)
        return (f"{self.name}: out {rate:.0f} MB/s ({rates}), in {self.middle('in'):.0f} MB/s; a megabyte out: packets sent "
                f"{sent:.0f} (of {1000 / sent:.0f} KB), received {self.per_megabyte('received'):.0f}, {counted}; ms of its CPU "
                f"{self.per_megabyte('cpu_ns') / 1e6:.1f}, of other threads {self.per_megabyte('others_ns') / 1e6:.1f}, which "
                f"slept {self.per_megabyte('switches'):.0f} times")


def brume_words(program):
    def words(tap, kernel, initrd, append):
        return [program, "--kernel", kernel, "--initrd", initrd, "--append", append, "--memory", f"{MIB}M,thp",
                "--serial", "fd:1", "--no-reboot", "--net", f"tap={tap}"]
    return words


def qemu_words(options, transport):
    def words(tap, kernel, initrd, append):
        return ["qemu-system-x86_64", "-name", "bench,debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-M", "microvm" + options, "-accel", "kvm", "-cpu", "host", "-m", str(MIB),
                "-global", "virtio-mmio.force-legacy=false", "-serial", "file:/dev/stdout",
                "-kernel", kernel, "-initrd", initrd, "-append", append,
                "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no,vhost=off",
                "-device", f"virtio-net-{transport},netdev=net"]
    return words


def make_sides(bench):
    sides = [Side("brume-vmm", 0, brume_words(bench.build / "brume-vmm")),
             Side("QEMU microvm", 1, qemu_words("", "device")),
             Side("QEMU microvm, PCI", 2, qemu_words(",pcie=on", "pci"))]
    before = bench.build / "brume-vmm-before"
    if before.exists():
        sides.append(Side("brume-vmm before", 3, brume_words(before)))
    return sides


def run(bench):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("there is no /dev/kvm")
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("QEMU is not installed")
    driver, seconds = bench.build / "tests/vm-guest-driver", 1 if bench.quick else 4
    rounds = bench.rounds(int(os.environ.get("BENCH_ROUNDS", "5")))
    kernel, modules = make_kernel(bench)
    initrd = make_initrd(bench, modules)
    sides = make_sides(bench)
    try:
        for side in sides:
            again(bench, lambda side=side: side.boot(kernel, initrd, rounds, seconds))
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                side.carry(driver, number, seconds)
    finally:
        for side in sides:
            side.end()
    for side in sides:
        bench.note(side.describe())
    ours = sides[0]
    for key, what in ("out", "TCP out of the guest"), ("in", "TCP into the guest"):
        for other in sides[1:]:
            bench.at_least(f"virtio-net, {what}", ours.middle(key), other.middle(key), 1, other.name, "MB/s")
