#!/bin/bash
# A node runs machines on the minimal kernel, by brume-vmm on a /dev/kvm, when the build folder holds one.
#
# lab: kernels=6.12 memory=2560 time=900 default=no
set -euE
kernel=$BRUME_BUILD/brume-minimal-vmlinux
[ -e "$kernel" ] || {
	echo "no minimal kernel: tools/build_minimal_kernel BUILD/brume-minimal-vmlinux makes it, in the build folder"
	exit 77
}
. lab-node
began=$SECONDS
finish() {
	local code=$?
	trap - ERR EXIT
	set +e
	[ $code = 0 ] || {
		brume list
		brume info -f json vm
		for ring in run/instances/*/machine/console; do tail -c 3000 "$ring" | tr -d '\0'; done
	} 2>&1
	(exit $code)
	node_stop
}
trap finish EXIT
trap 'echo "line $LINENO: $BASH_COMMAND"' ERR

say() { echo "[$((SECONDS - began)) s] $*"; }
same() { # WHAT WANTED GOT
	[ "$2" = "$3" ] || {
		echo "$1: '$3', not '$2'"
		return 1
	}
}
is_up() { python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8080/", timeout=20).read()'; }
machine() { brume info -f json vm | python3 -c 'import json, sys; m = json.load(sys.stdin)["status"]["machine"]; print(m["backend"], m["kernel"])'; }
no_monitor() { if pgrep -ax brume-vmm; then return 1; fi; }

lab-kvm
modprobe tun
node_start --boot-timeout 600
brume kernel import --name minimal "$kernel"
say "has a kernel"
brume launch --vm --kernel minimal $HELLO vm -p 8080:80 -m 128M --cpus 2
say "a machine runs"
node_until 60 is_up
same "back end and kernel" "brume-vmm minimal" "$(machine)"
same cpus 2 "$(brume exec vm -- nproc)"
same root overlay "$(brume exec vm -- awk '$2 == "/" && $3 == "overlay" {print $3}' /proc/mounts)"
head -c 500000 /dev/urandom >data
brume cp data vm:/root/data
same data "$(sha256sum <data)" "$(brume exec -i vm -- sha256sum <data)"
brume exec vm -- cmp /root/data /root/data
brume stats --no-stream vm
brume update -m 96M vm
brume stop -t 1 vm
say "has stopped"
brume start vm
brume exec vm -- test -s /root/data
say "has come back with its disk"
code=0
said=$(brume launch -a --rm --vm --kernel minimal -m 96M $HELLO one -- sh -c 'echo told; exit 7' 2>&1) || code=$?
same "a command's end" "7 told" "$code $said"
say "a command has ended"
brume delete --force vm
node_until 20 no_monitor
same "folders of instances" "" "$(find run/instances state/instances -mindepth 1 -maxdepth 1)"
say "nothing is left"
