#!/bin/bash
# The networks of a machine of brume-vmm change while it runs, on a /dev/kvm.
#
# lab: kernels=6.12 memory=2560 time=900
set -euE
. lab-node
began=$SECONDS
finish() {
	local code=$?
	trap - ERR EXIT
	set +e
	[ $code = 0 ] || {
		brume info -f json vm
		in_vm ip addr
		tail -n 20 run/instances/*/machine/log
		for ring in run/instances/*/machine/console; do tail -c 3000 "$ring" | tr -d '\0'; done
	} 2>&1
	(exit $code)
	node_stop
}
trap finish EXIT
trap 'echo "line $LINENO: $BASH_COMMAND"' ERR

say() { echo "[$((SECONDS - began)) s] $*"; }
in_vm() { brume exec vm -- "$@"; }
status() { brume info -f json vm | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"][sys.argv[1]])' "$1"; }
page() { python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())' "$1"; }
is_another() { [ "$(cat run/agentd.lock)" != "$1" ] && kill -0 "$(cat run/agentd.lock)"; }

lab-kvm
modprobe tun
node_start --boot-timeout 600
brume info | grep -q "machines *brume-vmm: /dev/kvm runs ring 0"
brume kernel import --modules "/lib/modules/$(uname -r)" /usr/lib/modules/vmlinuz
brume network create front --subnet 10.71.0.0/24
brume network create back --subnet 10.72.0.0/24 --routed --mtu 1400
brume launch --vm $HELLO vm --network front -m 192M
pid=$(status pid)
say "a machine runs"

brume network attach --ip 10.72.0.9 back vm
in_vm ip addr show dev eth1 | grep -q "mtu 1400"
in_vm ip addr show dev eth1 | grep -q "inet 10.72.0.9/24"
in_vm ip route | grep -q "default via 10.71.0.1 dev eth0"
page http://10.72.0.9/ >/dev/null
say "it has another interface"

agent=$(cat run/agentd.lock)
kill -9 "$agent"
node_until 60 is_another "$agent"
node_until 60 node_online
brume network detach front vm
[ "$(in_vm sh -c 'ls /sys/class/net | tr "\n" " "')" = "eth1 lo " ]
in_vm ip route | grep -q "default via 10.72.0.1 dev eth1"
page http://10.72.0.9/ >/dev/null
say "what it was started with has gone, by another agent"

brume network attach front vm
in_vm ip addr show dev eth0 | grep -q "inet 10.71.0."
[ "$(status pid)" = "$pid" ]
brume delete --force vm
say "all of it in one machine"
