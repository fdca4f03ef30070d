#!/bin/bash
# brume-vmm beside QEMU's microvm: start, memory, disk and network; nothing is asserted.
#
# lab: default=no time=3600 memory=3072 alone=yes packages=qemu-system-x86
#
# First: ninja -C build-bench && ninja -C build-bench tests/floor-vm-tiny
# then:  tests/lab/run -v --build build-bench --kernel 6.1 bench_vmm
set -euo pipefail
[ -e /dev/kvm ] || modprobe kvm-amd
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
modprobe tun
"$LAB/tests/bench/run" --build "$BRUME_BUILD" vmm | tee "$LAB_ARTEFACTS/ratios.txt"
