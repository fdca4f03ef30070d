#!/bin/sh
# What config.json may ask for and a developer's kernel cannot do: all controllers of version 2,
# AppArmor, real-time scheduling.
#
# lab: time=400 packages=apparmor,rdma-core,libcap2-bin
set -eu
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
case $LAB_KERNEL in
6.12) lab-pytest oci_spec_v2 ;;
*) lab-pytest oci_spec_lsm oci_spec_process -- -k "lsm or policy" ;;
esac
