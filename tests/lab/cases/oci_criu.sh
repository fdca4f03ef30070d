#!/bin/sh
# brume-oci checkpoint and restore with Debian's CRIU: memory, mounts, terminals, hooks, what is refused.
#
# lab: kernels=6.1 time=900 packages=criu
set -eu
criu check
lab-pytest oci_criu
