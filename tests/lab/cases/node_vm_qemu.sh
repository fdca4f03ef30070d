#!/bin/bash
# A node that is set to QEMU runs a virtual machine by it on a /dev/kvm, in the same jail; its memory can shrink.
#
# lab: kernels=6.12 memory=2560 time=900 default=no packages=qemu-system-x86
set -euE
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
get() { # MEMBER... ; of the document that comes in
	python3 -c '
import json, sys
value = json.load(sys.stdin)
for member in sys.argv[1:]:
    value = value[member]
print(value)' "$@"
}
same() { # WHAT WANTED GOT
	[ "$2" = "$3" ] || {
		echo "$1: '$3', not '$2'"
		return 1
	}
}
is_up() { python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8080/", timeout=20).read()'; }
balloon() { brume stats --machine vm -f json | get balloon balloon_bytes; }
has_given() { same balloon $((64 << 20)) "$(balloon)"; }
no_qemu() { if pgrep -ax qemu-system-x86; then return 1; fi; }

lab-kvm
modprobe tun
node_start --vm-backend qemu --boot-timeout 600
brume info | tee info
grep -q "machines *qemu: set by --vm-backend; /dev/kvm runs ring 0" info
brume kernel import --modules "/lib/modules/$(uname -r)" /usr/lib/modules/vmlinuz
say "has a kernel"

brume launch --vm $HELLO vm -p 8080:80 -m 256M --cpus 1
say "a machine runs"
node_until 60 is_up
same "back end" qemu "$(brume info -f json vm | get status machine backend)"
same "kernel inside" "$(uname -r)" "$(brume exec vm -- uname -r)"
brume exec vm -- grep -m1 -i hypervisor /proc/cpuinfo >/dev/null
brume stats --machine vm | tee stats
grep -q "^kvm_cpus.exits" stats
same accelerator kvm "$(brume stats --machine vm -f json | get accelerator)"
brume update -m 192M vm
node_until 120 has_given
brume exec vm -- free -m
brume stop -t 1 vm
say "has stopped"
code=0
said=$(brume launch -a --rm --vm -m 128M $HELLO one -- sh -c 'echo told; exit 7' 2>&1) || code=$?
same "a command's end" "7 told" "$code $said"
brume delete --force vm
node_until 20 no_qemu
same "folders of instances" "" "$(find run/instances state/instances -mindepth 1 -maxdepth 1)"
say "nothing is left"
