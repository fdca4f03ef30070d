#!/bin/bash
# A whole node as units of systemd: an instance outlives every kill, restart, stop and reload.
#
# lab: time=600 memory=2048 default=6.12
set -eu
step() { printf '\n== %s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*"
	systemctl --no-pager status 'brume*' || true
	journalctl --no-pager -n 60
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "never came true: $*"
		sleep 0.2
	done
}
get() { # PORT PATH
	exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3 && timeout 10 cat <&3
}
page() (get 8080 /)
online() { brume info | grep -qw online; }
group() { find /sys/fs/cgroup/brume -name cgroup.procs -exec grep -lx "$1" {} + | head -n1 | xargs dirname; }
fresh_pid() { # UNIT OLD_PID ; the unit runs again, as another process
	local pid
	pid=$(systemctl show -P MainPID "$1")
	[ "$pid" != 0 ] && [ "$pid" != "$2" ] && systemctl is-active --quiet "$1"
}
init_pid() { pgrep -f '^/?(bin/)?httpd ' | head -n1; }
unharmed() {
	[ -d "/proc/$init" ] || fail "the instance died"
	[ "$(cat "$place/memory.max")" = $((64 << 20)) ] || fail "its memory limit is lost"
	[ "$(cat "$place/pids.max")" = 40 ] || fail "its pids limit is lost"
	[ "$(cat "$place/cpu.max")" = "50000 100000" ] || fail "its cpu limit is lost"
	page | grep -q brume || fail "no page from it"
}

step "install"
cp -a "$LAB/install/." /
systemd-sysusers
systemd-tmpfiles --create brume.conf
systemctl daemon-reload
systemd-analyze --man=no verify /usr/local/lib/systemd/system/brume*.service /usr/local/lib/systemd/system/brume*.socket
systemctl enable --now brumed brume-agentd brume-keeper
for unit in brumed.socket brumed-agent.socket brumed brume-agentd brume-keeper; do
	until_true 30 systemctl is-active "$unit"
	systemctl is-enabled --quiet $unit
done
until_true 60 online
[ "$(stat -c %U:%G:%a /run/brume/brumed.sock)" = root:brume:660 ]
[ "$(stat -c %U "/proc/$(systemctl show -P MainPID brumed)")" = brume ] || # not dumpable: root owns it
	grep -q "^Uid:.$(id -u brume)" "/proc/$(systemctl show -P MainPID brumed)/status"

step "an instance with limits and a published port"
printf 'version: 0.1\nstorage: { filesystem: { rootdirectory: %s/registry } }\nhttp: { addr: "127.0.0.1:5000" }\n' \
	"$PWD" >registry.yml
docker-registry serve registry.yml >registry.log 2>&1 &
registry() (get 5000 /v2/)
until_true 60 registry
python3 "$LAB/tools/image_builder.py" --push 127.0.0.1:5000/hello:1
brume image pull --insecure 127.0.0.1:5000/hello:1
brume launch 127.0.0.1:5000/hello:1 web -p 8080:80 --memory 64M --pids 40 --cpus 0.5
until_true 20 page
init=$(brume info web -f json | python3 -c 'import json,sys; print(json.load(sys.stdin)["status"].get("pid", 0))')
[ "$init" != 0 ] || init=$(init_pid)
place=$(group "$init")
echo "init $init in $place"
unharmed

step "kill -9 each daemon; systemd starts it again"
for unit in brumed brume-agentd brume-keeper; do
	old=$(systemctl show -P MainPID $unit)
	systemctl kill --kill-whom=main --signal=KILL $unit
	until_true 30 fresh_pid $unit "$old"
	until_true 30 online
	unharmed
done

step "restart and reload them"
for unit in brumed brume-agentd brume-keeper; do
	systemctl restart $unit
	until_true 30 online
	unharmed
done
systemctl reload brume-keeper
brume exec web -- true
unharmed

step "systemd changes the control groups of its own; ours stay as they are"
systemd-run --quiet --wait -p CPUWeight=50 -p IOWeight=50 -p MemoryMax=1G -p TasksMax=50 true
systemctl daemon-reload
systemctl daemon-reexec
until_true 30 online
unharmed

step "all daemons stop; the instance goes on; a call at the socket brings brumed back"
systemctl stop brume-agentd brume-keeper brumed
unharmed
brume list | grep -qw web
systemctl is-active --quiet brumed
systemctl start brume-keeper brume-agentd
until_true 30 online
brume exec web -- true
brume logs web >/dev/null
unharmed

step "nothing stays"
brume delete --force web
[ ! -d "$place" ] || fail "the control group is still there"
systemctl disable --now brume-agentd brume-keeper brumed brumed.socket brumed-agent.socket
[ "$(systemctl list-units --failed --no-legend 'brume*' | wc -l)" = 0 ] || fail "a unit has failed"
if journalctl -b -p err --no-pager -u brumed -u brume-agentd -u brume-keeper | grep -v '^-- '; then
	fail "the daemons wrote errors"
fi
for link in $(ip -o link | sed -n 's/^[0-9]*: \(brume[^:@]*\).*/\1/p'); do ip link del "$link"; done
nft delete table inet brume 2>/dev/null || true
kill %1
echo done
