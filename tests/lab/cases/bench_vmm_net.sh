#!/bin/bash
# A network card of brume-vmm beside QEMU's, in turns: throughput and what a megabyte takes; nothing is asserted.
#
# lab: default=no time=1800 memory=3072 alone=yes packages=qemu-system-x86
#
# First: ninja -C build-bench
# then:  tests/lab/run -v --build build-bench --kernel 6.1 bench_vmm_net
set -euo pipefail
[ -e /dev/kvm ] || modprobe kvm-amd
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
modprobe tun
"$LAB/tests/bench/run" --build "$BRUME_BUILD" vmm_net | tee "$LAB_ARTEFACTS/ratios.txt"
