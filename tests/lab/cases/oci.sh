#!/bin/sh
# brume-oci on control groups of version 2: life, limits, devices by program, freezer, attacks on its own process.
#
# lab: time=900
# Each kernel has its share; tests/lab/run integration/NAME runs any of these files on both.
case $LAB_KERNEL in
6.12) lab-pytest oci_v2 oci_update oci_attack_self ;;
*) lab-pytest oci_v2 oci_life oci_inside ;;
esac
