#!/bin/sh
# Networks of driver ovs on the kernel's Open vSwitch: a bridge of brume's own and one that is there, and nothing left.
#
# lab: kernels=6.12 time=240 packages=openvswitch-switch
set -eu
# The tests start daemons of their own in namespaces of their own.
systemctl stop openvswitch-switch ovs-vswitchd ovsdb-server 2>/dev/null || true
modprobe openvswitch
lab-pytest net_ovs
