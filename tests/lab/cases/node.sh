#!/bin/sh
# A node launches instances with limits, networks and published ports; an instance cannot get out.
#
# lab: time=900
# What confines an instance on both kernels is tried by the case oci; once through a node will do.
case $LAB_KERNEL in
6.12) lab-pytest node_launch node_confine ;;
*) lab-pytest node_launch ;;
esac
