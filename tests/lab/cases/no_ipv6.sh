#!/bin/bash
# A server whose kernel has IPv6 switched off: a node with its default network works all the same.
#
# lab: kernels=6.12 cmdline="ipv6.disable=1 security=selinux selinux=1" time=240
set -eu
. lab-node
trap node_stop EXIT
[ ! -e /proc/sys/net/ipv6 ]
node_start
set -x
brume launch $HELLO web -p 8080:80
brume info web
python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/", timeout=20).read())'
brume exec web -- true
brume delete --force web
brume network list
