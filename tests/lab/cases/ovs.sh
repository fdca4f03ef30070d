#!/bin/sh
# Networks of driver ovs on the kernel's Open vSwitch: bridges of brume's own, and what a crash has left of them.
#
# lab: kernels=6.12 time=600 packages=openvswitch-switch
# What works without the kernel's module is tested wherever the programs are: these are the rest.
set -eu
modprobe openvswitch
lab-pytest net_ovs node_ovs -- -k "own or crash"
