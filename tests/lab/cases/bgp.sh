#!/bin/sh
# A routing daemon (FRR) on the node announces what is marked, to a provider beside it.
#
# lab: kernels=6.12 time=900 packages=frr
# Who dies and what a router leads to needs no such kernel: test_node_bgp, wherever frr is installed.
lab-pytest node_bgp -- -k while_it_is_there
