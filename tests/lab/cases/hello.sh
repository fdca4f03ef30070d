#!/bin/sh
# The lab itself: systemd as init, control groups of version 2 only, the project's disk.
#
# lab: time=60
set -eux
[ "$(cat /proc/1/comm)" = systemd ]
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]
case $(uname -r) in "$LAB_KERNEL".*) ;; *) exit 1 ;; esac
brume-oci --version
date >"$LAB_ARTEFACTS/when"
