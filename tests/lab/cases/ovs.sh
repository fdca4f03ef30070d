#!/bin/sh
# Networks of driver ovs on the kernel's Open vSwitch: its own bridges and those that are there, crashes, what is traced.
#
# lab: kernels=6.12 time=900 packages=openvswitch-switch
set -eu
modprobe openvswitch
lab-pytest net_ovs node_ovs
