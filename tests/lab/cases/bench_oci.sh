#!/bin/bash
# The ratios of brume-oci to crun and to its floors on control groups of version 2; nothing is asserted.
#
# lab: default=no time=3600 memory=3072 alone=yes
#
# First: ninja -C build-bench && ninja -C build-bench tests/floor-oci tests/floor-exec
# then:  tests/lab/run -v --build build-bench --kernel 6.12 bench_oci
set -euo pipefail
"$LAB/tests/bench/run" --build "$BRUME_BUILD" oci | tee "$LAB_ARTEFACTS/ratios.txt"
