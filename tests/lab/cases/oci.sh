#!/bin/sh
# brume-oci on control groups of version 2: life, limits, devices by program, freezer, what is inside.
#
# lab: time=900
lab-pytest oci_v2 oci_life oci_inside oci_update
