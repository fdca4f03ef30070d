#!/bin/sh
# What config.json may ask for and a developer's kernel cannot do: all controllers of version 2,
# AppArmor, real-time scheduling.
#
# lab: kernels=6.1,6.12 time=400 memory=2048 packages=apparmor,rdma-core,libcap2-bin
set -eu
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
lab-pytest oci_spec_v2 oci_spec_lsm oci_spec_process -- -k "v2 or lsm or policy"
