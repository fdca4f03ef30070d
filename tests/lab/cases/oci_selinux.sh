#!/bin/sh
# SELinux labels of processes and file systems, enforced under a small policy of our own.
#
# lab: kernels=6.12 cmdline="ipv6.disable=1 security=selinux selinux=1" time=240 packages=checkpolicy
set -eux
policy=$(mktemp)
trap 'rm -f "$policy"' EXIT
checkpolicy -U allow -o "$policy" "$LAB/tests/lab/selinux.conf"
mountpoint -q /sys/fs/selinux || mount -t selinuxfs selinuxfs /sys/fs/selinux
# The kernel takes a policy in one write.
dd if="$policy" of=/sys/fs/selinux/load bs=16M
echo 1 >/sys/fs/selinux/enforce
lab-pytest oci_spec_selinux
