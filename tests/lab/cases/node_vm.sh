#!/bin/bash
# A node runs the same image as a container and as a virtual machine, by brume-vmm on a /dev/kvm.
#
# lab: kernels=6.12 memory=2560 time=900 packages=fio
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
		tail -n 5 run/instances/*/machine/log
		for ring in run/instances/*/machine/console; do tail -c 3000 "$ring" | tr -d '\0'; done
	} 2>&1
	(exit $code)
	node_stop
}
trap finish EXIT
trap 'echo "line $LINENO: $BASH_COMMAND"' ERR

say() { echo "[$((SECONDS - began)) s] $*"; }
get() { # NAME MEMBER... ; of the instance's document
	brume info -f json "$1" | python3 -c '
import json, sys
value = json.load(sys.stdin)
for member in sys.argv[1:]:
    value = value[member]
print(value)' "${@:2}"
}
page() { python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())' "$1"; }
is_up() { page http://127.0.0.1:8080/; }
in_vm() { brume exec vm -- "$@"; }
same() { # WHAT WANTED GOT
	[ "$2" = "$3" ] || {
		echo "$1: '$3', not '$2'"
		return 1
	}
}
code_of() { # COMMAND... ; its exit code in $code, what it says in $said
	code=0
	said=$("$@" 2>&1) || code=$?
	echo "$said" | tail -n 3
}
no_monitor() { if pgrep -ax brume-vmm; then return 1; fi; }
runs_anew() { [ "$(get vm status state)" = running ] && [ "$(get vm status pid)" != "$1" ]; }
kill_daemon() {
	local pid
	pid=$(cat "run/$1.lock")
	kill -9 "$pid"
	node_until 60 is_another "$1" "$pid"
	node_until 60 node_online
}
is_another() { [ "$(cat "run/$1.lock")" != "$2" ] && kill -0 "$(cat "run/$1.lock")"; }

lab-kvm
modprobe tun
node_start --boot-timeout 600
brume info | tee info
grep -q "machines *brume-vmm: /dev/kvm runs ring 0" info
brume kernel import --modules "/lib/modules/$(uname -r)" /usr/lib/modules/vmlinuz
brume network create front --subnet 10.71.0.0/24
brume network create back --subnet 10.72.0.0/24 --routed --mtu 1400
say "has a kernel and networks"

brume launch $HELLO web -p 8081:80
brume launch --vm $HELLO vm --network default --network front -p 8080:80 -m 192M --cpus 1 --restart always -e COLOUR=blue --health-http 80/ --health-interval 1s
say "a container and a machine run"
node_until 60 is_up
same page "$(page http://127.0.0.1:8081/)" "$(is_up)"
same "back end" "brume-vmm $(uname -r)" "$(get vm status machine backend) $(get vm status machine kernel)"
same "kernel inside" "$(uname -r)" "$(in_vm uname -r)"
same cpus 1 "$(in_vm nproc)"
kib=$(in_vm awk '/MemTotal/{print $2}' /proc/meminfo)
[ "$kib" -gt $((140 << 10)) ] && [ "$kib" -le $((192 << 10)) ]
same environment blue "$(in_vm sh -c 'echo $COLOUR')"
code_of in_vm sh -c 'exit 9'
same "exit code of exec" 9 "$code"
code_of in_vm /no/such
same "exit code of what is not there" 127 "$code"
head -c 2000000 /dev/urandom >data
same input "$(sha256sum <data)" "$(brume exec -i vm -- sha256sum <data)"
brume cp data vm:/root/data
brume cp vm:/root/data back
cmp data back
brume wait --condition healthy -t 60 vm
brume exec web -- wget -qO- http://vm/ >/dev/null
brume logs vm 2>&1 | grep -q "GET / \|response:200"
brume stats --no-stream vm
say "exec, cp, logs and health checks work"

pid=$(get vm status pid)
kill_daemon agentd
kill_daemon brumed
same "process after the daemons were killed" "$pid" "$(get vm status pid)"
same page "$(page http://127.0.0.1:8081/)" "$(is_up)"
in_vm sh -c 'echo kept >/root/kept; sync'
say "it did not notice that the daemons died"

# What a disk is tested with elsewhere; its program goes in with all that it is linked with.
libraries=$(ldd /usr/bin/fio | grep -o '/[^ ]*')
# shellcheck disable=SC2086 # file names without blanks
tar -chf - /usr/bin/fio $libraries 2>/dev/null | brume cp -a - vm:/
in_vm fio --name=disk --filename=/root/disk --size=16m --rw=randwrite --bs=4k-64k --direct=1 --ioengine=libaio \
	--iodepth=8 --verify=crc32c --verify_fatal=1 --output-format=json >fio.json
python3 -c '
import json
job = json.load(open("fio.json"))["jobs"][0]
assert job["error"] == 0 and job["read"]["io_bytes"] == job["write"]["io_bytes"] > 8 << 20, job'
say "fio has found what it wrote"

# A card that it was started with, by another agent; then one that comes and goes.
brume network detach front vm
same interfaces "eth0 lo " "$(in_vm sh -c 'ls /sys/class/net | tr "\n" " "')"
brume network attach --ip 10.72.0.9 back vm
in_vm ip addr show dev eth1 >address
grep -q "mtu 1400" address
grep -q "inet 10.72.0.9/24" address
in_vm ip route | grep -q "default via .* dev eth0"
page http://10.72.0.9/ >/dev/null
brume network detach back vm
same interfaces "eth0 lo " "$(in_vm sh -c 'ls /sys/class/net | tr "\n" " "')"
same "process after its networks changed" "$pid" "$(get vm status pid)"
say "its networks have changed"

brume events -f json --kind instance --name vm >events 2>&1 &
node_processes+=($!)
kill -9 "$pid"
node_until 600 runs_anew "$pid"
node_until 60 is_up
same restarts 1 "$(get vm status restarts)"
same "what was on the disk" kept "$(in_vm cat /root/kept)"
grep -o "the machine's monitor was killed[^\"]*" events
say "its monitor was killed, and it is back"

brume stop -t 1 vm
same "exit code" 137 "$(get vm status exit_code)"
no_monitor
code_of brume launch -a --rm --vm -m 128M $HELLO one -- sh -c 'echo told; exit 7'
same "a command's end" "7 told" "$code $said"
say "a command has ended"
code_of brume launch -a --rm --vm -m 128M $HELLO one -- /no/such/program
same "a program that is not there" 127 "$code"
say "a program was not there"
(cd "$LAB/tests/integration" && python3 -Bc '
import sys, test_node_vm_bad
sys.stdout.buffer.write(test_node_vm_bad.elf("I fault", end="0f0b"))') >faulty
brume kernel import --name faulty "$PWD/faulty"
code_of brume launch --vm --kernel faulty -m 128M $HELLO one
same "a guest that crashes" 1 "$code"
grep -q "the guest has crashed" <<<"$said"
say "a guest crashed"

brume delete --force vm web
node_until 20 no_monitor
same "folders of instances" "" "$(find run/instances state/instances -mindepth 1 -maxdepth 1)"
same "taps" "" "$(ip -o link show type tun)"
brume network delete front back
brume network list
say "nothing is left"
