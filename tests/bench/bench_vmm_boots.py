"""brume-vmm beside QEMU's microvm: boots of a real kernel, how long they take and how many exits.

Where KVM runs ring 0 at speed: the lab (tests/lab/run --build DIR --kernel 6.1 bench_vmm_boots), or any server.
Both sides get the same ELF vmlinux, initramfs, kernel command line and kinds of devices.  User space says that it
runs with one port write; that moment ends the time, and exits are read from debugfs right then.
"""
import os
import shutil
import statistics

from bench_vmm import APPEND, GUEST_MIB, Devices, Run, again, brume, make_initrd, make_kernel, qemu
from common import Skip


def boot(words):
    """(seconds until its user space speaks, the exits until then)"""
    run = Run(words)
    try:
        return run.wait_for("!"), run.exits()
    finally:
        run.end()


def boots(bench, what, cpus, kernel, initrd, steps, sides, devices, rounds):
    """Boots all sides in turns; {side: (seconds, exits, all counters of the last)}, medians."""
    found = {side: ([], [], {}) for side in sides}
    for number in range(bench.rounds(rounds)):
        for side in sides if number % 2 == 0 else reversed(sides):
            append = f"{APPEND} -- {steps}"
            if side.startswith("brume"):
                memory = f"{GUEST_MIB}M" if side.endswith("4K") else f"{GUEST_MIB}M,thp"
                words = brume(bench, devices, kernel, initrd, append, "--cpus", cpus, memory=memory)
            else:
                words = qemu(devices, kernel, initrd, append, "-smp", cpus,
                             options=",x-option-roms=off,pit=off,pic=off,rtc=off"
                             if side.endswith("tuned") else "")
            seconds, counters = again(bench, lambda words=words: boot(words))
            found[side][0].append(seconds)
            found[side][1].append(counters["exits"])
            found[side][2].update(counters)
    for side, (times, exits, counters) in found.items():
        top = sorted(((value, key) for key, value in counters.items() if value > 50), reverse=True)
        bench.note(f"{what}, {side}: {statistics.median(times):.2f} s, {statistics.median(exits):.0f} "
                   "exits; " + " ".join(f"{key}={value}" for value, key in top[:14]))
    return {side: (statistics.median(times), statistics.median(exits))
            for side, (times, exits, _) in found.items()}


def measure_boots(bench, devices, kernel, initrd):
    # QEMU does not survive it when its machine has more than the server (an emulated KVM again).
    for cpus in sorted({1, min(4, os.cpu_count())}):
        rounds = 5 if cpus == 1 else 3
        sides = ["brume-vmm", "QEMU microvm"]
        if cpus == 1:
            sides += ["brume-vmm 4K", "QEMU tuned"]
        what = f"{cpus} CPU" + ("s" if cpus > 1 else "")
        got = boots(bench, f"Debian's kernel, {what}", cpus, kernel, initrd, "ready wait", sides,
                    devices, rounds)
        ours, theirs = got["brume-vmm"], got["QEMU microvm"]
        bench.row(f"exec to init, Debian's kernel, {what}", ours[0], theirs[0], 0.6, "QEMU microvm")
        bench.row(f"VM exits until then, {what}", ours[1], theirs[1], 0.5, "QEMU microvm", "", 1)
        minimal = bench.build / "brume-minimal-vmlinux"
        if not minimal.exists():
            bench.note("no minimal kernel: copy its vmlinux (docs/operate/kernels.md) to "
                       f"{minimal.name} in the build folder")
            continue
        got = boots(bench, f"the minimal kernel, {what}", cpus, minimal, initrd, "ready wait",
                    ["brume-vmm", "QEMU microvm"], devices, rounds)
        ours, theirs = got["brume-vmm"], got["QEMU microvm"]
        bench.row(f"exec to init, the minimal kernel, {what}", ours[0], theirs[0], 0.6, "QEMU microvm")
        bench.row(f"VM exits until then, {what}", ours[1], theirs[1], 0.5, "QEMU microvm", "", 1)


def run(bench):
    if not os.environ.get("LAB"):
        raise Skip("boots are measured in the lab (tests/lab/run bench_vmm_boots)")
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("QEMU is not installed")
    kernel, modules = make_kernel(bench)
    measure_boots(bench, Devices(bench), kernel, make_initrd(bench, modules))
