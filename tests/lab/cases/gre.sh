#!/bin/sh
# GRE tunnels between two and three nodes, which a developer's kernel may lack: MTU, forged packets, repair.
#
# lab: kernels=6.12 time=600
modprobe ip_gre
modprobe ip6_gre
lab-pytest net_gre node_tunnel -- -k "gre"
