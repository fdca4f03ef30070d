#!/usr/bin/env python3
# brume-vmm boots the minimal kernel, when the build folder holds it: devices that come and go, power button, restart, panic, four CPUs.
#
# lab: kernels=6.1 memory=2560 time=600 alone=yes default=no
"""First: tools/build_minimal_kernel BUILD/brume-minimal-vmlinux.

What a boot takes is printed beside Debian's kernel, with the same initramfs, on the same machine.
"""
import json
import os
import pathlib
import sys

import vmm

DEBIAN, MINIMAL = vmm.KERNEL, os.environ["BRUME_BUILD"] + "/brume-minimal-vmlinux"
SKIP = 77


def four_cpus():
    text = vmm.Machine("smp", "", "--cpus", "4", "--memory", "160M,thp", "--no-reboot").end(0)
    assert "UP cpus=4 " in text and "clock=kvm-clock" in text, text


def beside_debians():
    """From exec to the power's end, with nothing in between but one line of init."""
    for round_ in (1, 2):
        for name, kernel in (("minimal", MINIMAL), ("Debian's", DEBIAN)):
            vmm.KERNEL = kernel
            machine = vmm.Machine(f"boot-{round_}-{name[:3]}", "", "--memory", "192M,thp", "--no-reboot")
            machine.end(0)
            counters = json.loads(machine.metrics.read_text())
            exits = sum(counters["cpus"][0]["exits"].values())
            print(f"{name} kernel: {exits} exits to brume-vmm, {counters['kvm_cpus'].get('exits')} in all",
                  flush=True)
    vmm.KERNEL = MINIMAL


if not pathlib.Path(MINIMAL).exists():
    print("no minimal kernel: tools/build_minimal_kernel BUILD/brume-minimal-vmlinux makes it, in the build folder")
    sys.exit(SKIP)
vmm.KERNEL = MINIMAL
vmm.prepare([], [])
vmm.boots_and_finds_its_devices()
four_cpus()
vmm.feels_its_power_button()
vmm.carries_data(pings=200, connections=100, rounds=20)
vmm.restart_and_panic_are_told_apart()
vmm.restarts_in_its_jail_and_obeys()
beside_debians()
