#!/bin/bash
# brume-vmm beside QEMU's microvm: boots of Debian's kernel and of the minimal one, and their exits; nothing is asserted.
#
# lab: default=no time=3600 memory=3072 alone=yes packages=qemu-system-x86
#
# First: ninja -C build-bench
# then:  tests/lab/run -v --build build-bench --kernel 6.1 bench_vmm_boots
set -euo pipefail
[ -e /dev/kvm ] || modprobe kvm-amd
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
modprobe tun
"$LAB/tests/bench/run" --build "$BRUME_BUILD" vmm_boots | tee "$LAB_ARTEFACTS/ratios.txt"
