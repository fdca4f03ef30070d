#!/bin/bash
# quickstart.sh - from a fresh Debian 12 machine to a running web server in an instance, and back.
set -u
cd "$(dirname "$0")" || exit 1
. tools/packages.sh

PORT=${BRUME_PORT:-8080}
REGISTRY_PORT=${BRUME_REGISTRY_PORT:-5000}
STATE=${BRUME_STATE:-/var/lib/brume}
RUN=${BRUME_RUN:-/run/brume}
PREFIX=${BRUME_PREFIX:-brume}
VM_PORT=${BRUME_VM_PORT:-8081}
NAME=hello
VM_NAME=hello-vm
REFERENCE=127.0.0.1:$REGISTRY_PORT/hello:1
BUILD=$PWD/build
WITH_VM=''
DEMO=$STATE/quickstart
PROGRAMS="brume brumed brume-agentd brume-keeper brume-oci brume-image-worker brume-tini brume-probe
	brume-init brume-qemu"
export BRUME_HOST=unix://$RUN/brumed.sock

usage() {
	cat <<END
usage: ./quickstart.sh [--with-vm | --stop]

Installs what is needed with apt, builds brume in build/, starts a node, pulls a small image from
a registry on this machine, launches a web server from it on port $PORT and shows it.  May be run
again at any time.

  --with-vm  installs QEMU and fetches a kernel, too, and launches the same image as a virtual
             machine, whose web server is on port $VM_PORT
  --stop     deletes all instances, stops the node and removes every trace of it

These variables change what is used (and must be the same for --stop):
  BRUME_PORT=$PORT            where the web server can be reached
  BRUME_VM_PORT=$VM_PORT         the one of the virtual machine
  BRUME_REGISTRY_PORT=$REGISTRY_PORT   the registry, on 127.0.0.1 only
  BRUME_STATE=$STATE  what the node keeps: images, instances, logs
  BRUME_RUN=$RUN        sockets and what is lost at a reboot
  BRUME_PREFIX=$PREFIX         the beginning of the names of bridges, cgroups and firewall tables
END
}

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' red='' plain=''; fi
began=$SECONDS number=0

step() { # TEXT
	number=$((number + 1))
	printf '%s[%d/%d]%s %s %s(%d s)%s\n' "$bold" "$number" $((WITH_VM ? 7 : 6)) "$plain" "$1" "$dim" $((SECONDS - began)) "$plain"
}

fail() { # WHAT HINT [LOG]
	if [ -n "${3:-}" ] && [ -s "$3" ]; then
		printf '%s--- the end of %s%s\n' "$dim" "$3" "$plain" >&2
		tail -n 15 "$3" >&2
	fi
	printf '%sfailed:%s %s\n' "$red" "$plain" "$1" >&2
	printf '  what to do: %s\n' "$2" >&2
	exit 1
}

show() { # COMMAND... ; prints it as a person would type it, then runs it
	printf '\n%s$ brume%s%s\n' "$bold" "$(printf ' %s' "$@")" "$plain"
	"$BUILD/brume" "$@"
}

pid_of() { # PIDFILE PROGRAM ; prints the pid if that program runs under it
	local pid
	read -r pid _ 2>/dev/null <"$1" || return 1
	[ -n "$pid" ] && [[ $(readlink "/proc/$pid/exe") == */$2* ]] && echo "$pid"
}

answers() { "$BUILD/brume" info >/dev/null 2>&1; }

port_is_free() { # PORT
	python3 - "$1" <<-'END'
		import socket, sys
		link = socket.socket()
		link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		try:
		    link.bind(("", int(sys.argv[1])))
		except OSError:
		    sys.exit(1)
	END
}

check_settings() {
	[ "$(id -u)" = 0 ] || fail "brume needs root to make containers and networks" \
		"sudo ./quickstart.sh"
	for port in "$PORT" "$REGISTRY_PORT"; do
		[[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] ||
			fail "\"$port\" is not a port" "a number from 1 to 65535"
	done
	for folder in "$STATE" "$RUN"; do
		[[ $folder == /*/* && $folder != *..* && $folder != */ ]] ||
			fail "\"$folder\" cannot be the node's folder" \
				"an absolute path at least two levels deep, for instance /var/lib/brume"
	done
	[[ $PREFIX =~ ^[a-z0-9]{1,8}$ ]] || fail "\"$PREFIX\" is not a prefix" "1 to 8 of a-z and 0-9"
}

build() {
	local log=$PWD/build/quickstart.log
	mkdir -p build
	if [ -f build/build.ninja ]; then
		# New files in the source folders are found when the build is set up.
		meson setup --reconfigure build >"$log" 2>&1
	else
		meson setup -Dbuildtype=debugoptimized build >"$log" 2>&1
	fi || fail "meson could not set up the build" "see above, or rm -r build and run it again" "$log"
	# shellcheck disable=SC2086 # a list of names
	if [ -t 1 ]; then
		ninja -C build $PROGRAMS 2>&1 | tee -a "$log" |
			awk '/^\[[0-9]+\/[0-9]+\]/ { printf "\r      %s  ", $1; fflush() } END { printf "\r%30s\r", "" }'
	else
		ninja -C build $PROGRAMS >>"$log" 2>&1
	fi
	[ "${PIPESTATUS[0]}" = 0 ] || fail "the build failed" \
		"rm -r build and run it again; if that does not help, it is our bug" "$log"
}

remember() { # what --stop has to put back
	[ -f "$DEMO/before" ] && return
	local key
	for key in net.ipv4.ip_forward net.ipv6.conf.all.forwarding; do
		echo "$key $(cat "/proc/sys/${key//.//}" 2>/dev/null)"
	done >"$DEMO/before"
}

make_user() {
	getent passwd brume >/dev/null && return
	getent group brume >/dev/null || groupadd --system brume ||
		fail "cannot make the group brume" "groupadd --system brume"
	useradd --system --gid brume --no-create-home --home-dir "$STATE" --shell /usr/sbin/nologin \
		brume || fail "cannot make the user brume" "useradd --system --gid brume brume"
	touch "$DEMO/made-user"
}

start_node() {
	answers && return
	setsid "$BUILD/brumed" --supervise --state "$STATE" --run "$RUN" --prefix "$PREFIX" --user brume \
		</dev/null >>"$STATE/brumed.log" 2>&1 &
	local brumed=$!
	for _ in $(seq 150); do
		answers && return
		kill -0 $brumed 2>/dev/null || break
		sleep 0.1
	done
	fail "the node does not answer" "look into $STATE/brumed.log; ./quickstart.sh --stop cleans up" \
		"$STATE/brumed.log"
}

start_registry() {
	pid_of "$DEMO/registry.pid" docker-registry >/dev/null && return
	port_is_free "$REGISTRY_PORT" || fail "port $REGISTRY_PORT is used by another program" \
		"choose another one: BRUME_REGISTRY_PORT=5050 ./quickstart.sh"
	cat >"$DEMO/registry.yml" <<-END
		version: 0.1
		storage: { filesystem: { rootdirectory: $DEMO/registry } }
		http: { addr: "127.0.0.1:$REGISTRY_PORT" }
	END
	setsid docker-registry serve "$DEMO/registry.yml" </dev/null >"$DEMO/registry.log" 2>&1 &
	echo $! >"$DEMO/registry.pid"
	for _ in $(seq 100); do
		curl -fs "http://127.0.0.1:$REGISTRY_PORT/v2/" >/dev/null && return
		sleep 0.1
	done
	fail "the registry does not answer" "look into $DEMO/registry.log" "$DEMO/registry.log"
}

start_vm() {
	local page=''
	step "the same image as a virtual machine, with its port 80 published as $VM_PORT"
	if "$BUILD/brume" info "$VM_NAME" >/dev/null 2>&1; then
		"$BUILD/brume" start "$VM_NAME" >/dev/null 2>&1
	else
		port_is_free "$VM_PORT" || fail "port $VM_PORT is used by another program" \
			"choose another one: BRUME_VM_PORT=8082 ./quickstart.sh --with-vm"
		# The first machine of a node fetches Debian's cloud kernel, without installing it.
		show launch --vm "$REFERENCE" "$VM_NAME" -m 256M -p "$VM_PORT:80" ||
			fail "the launch failed" "look into $STATE/brumed.log" "$STATE/brumed.log"
	fi
	for _ in $(seq 100); do
		page=$(curl -fs --max-time 5 "http://127.0.0.1:$VM_PORT/") && break
		sleep 0.1
	done
	[ -n "$page" ] || fail "no page from http://127.0.0.1:$VM_PORT/" "build/brume logs $VM_NAME" \
		"$STATE/brumed.log"
	show exec "$VM_NAME" -- uname -a
}

start() {
	printf '%sbrume%s: from this source to a running instance\n\n' "$bold" "$plain"
	step "packages"
	# shellcheck disable=SC2086 # lists of names
	tools/install_packages $packages_build $packages_run $packages_demo ${WITH_VM:+$packages_vm} ||
		fail "packages are missing" "see above"

	step "build"
	build

	step "a node: state in $STATE, sockets in $RUN"
	mkdir -p "$DEMO" && chmod 711 "$STATE"
	remember
	make_user
	if ! "$BUILD/brume" info "$NAME" >/dev/null 2>&1 && ! port_is_free "$PORT"; then
		fail "port $PORT is used by another program" "choose another one: BRUME_PORT=8081 ./quickstart.sh"
	fi
	start_node

	step "an image, in a registry on 127.0.0.1:$REGISTRY_PORT"
	start_registry
	tools/image_builder.py --push "$REFERENCE" >/dev/null ||
		fail "the image could not be pushed" "look into $DEMO/registry.log" "$DEMO/registry.log"

	step "pull it"
	show image pull --insecure "$REFERENCE" ||
		fail "the pull failed" "look into $STATE/brumed.log" "$STATE/brumed.log"

	step "launch an instance of it, with its port 80 published as $PORT"
	if "$BUILD/brume" info "$NAME" >/dev/null 2>&1; then
		"$BUILD/brume" start "$NAME" >/dev/null 2>&1
	else
		show launch "$REFERENCE" "$NAME" -p "$PORT:80" ||
			fail "the launch failed" "look into $STATE/brumed.log" "$STATE/brumed.log"
	fi
	local page=''
	for _ in $(seq 100); do
		page=$(curl -fs --max-time 5 "http://127.0.0.1:$PORT/") && break
		sleep 0.1
	done
	[ -n "$page" ] || fail "no page from http://127.0.0.1:$PORT/" "build/brume logs $NAME" "$STATE/brumed.log"
	printf '\n%s$ curl http://127.0.0.1:%s/%s\n%s\n' "$bold" "$PORT" "$plain" "$page"

	[ -z "$WITH_VM" ] || start_vm

	show list
	show info "$NAME"
	show logs "$NAME"
	show exec "$NAME" -- ps
	cat <<END

${bold}It runs${plain}, after $((SECONDS - began)) seconds. Look around:

  $BUILD/brume exec -it $NAME -- sh   a shell in the instance
  $BUILD/brume logs -f $NAME          what it writes, as it comes
  $BUILD/brume events                 what happens on the node, as it happens
  $BUILD/brume --help                 all the rest
  ./quickstart.sh --stop              stop everything and remove every trace
END
}

# --- the way back ---------------------------------------------------------------------------------

gone() { # PID SECONDS ; waits for the end of a process that is not ours to wait for
	local state
	for _ in $(seq $(($2 * 20))); do
		read -r _ _ state _ 2>/dev/null <"/proc/$1/stat" && [ "$state" != Z ] || return 0
		sleep 0.05
	done
	return 1
}

end_process() { # PID ; politely, then not
	kill -TERM "$1" 2>/dev/null || return
	gone "$1" 10 && return
	kill -KILL "$1" 2>/dev/null
	gone "$1" 5
}

delete_instances() {
	local names
	names=$("$BUILD/brume" list -f json 2>/dev/null |
		python3 -c 'import json,sys; print("\n".join(i["meta"]["name"] for i in json.load(sys.stdin)))' 2>/dev/null)
	for name in $names; do
		"$BUILD/brume" delete --force "$name" >/dev/null 2>&1 || echo "  $name cannot be deleted; removing it by force"
	done
}

end_daemons() {
	local pid
	for name in supervisor brumed agentd keeper; do
		pid=$(pid_of "$RUN/$name.lock" brume) && end_process "$pid"
	done
	pid=$(pid_of "$DEMO/registry.pid" docker-registry) && end_process "$pid"
	# Whatever still runs for this node: its name servers, and instances that nobody minds any more.
	for entry in $(grep -laF "$RUN/" /proc/[0-9]*/cmdline 2>/dev/null); do
		[[ $(readlink "${entry%cmdline}exe") == */dnsmasq ]] && end_process "$(basename "${entry%/cmdline}")"
	done
	for entry in $(grep -l ":/$PREFIX/" /proc/[0-9]*/cgroup 2>/dev/null); do
		pid=$(basename "${entry%/cgroup}")
		kill -KILL "$pid" 2>/dev/null && gone "$pid" 5
	done
}

remove_kernel_objects() {
	local mount link family table
	awk '{ print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
		[[ $mount == "$STATE"/* || $mount == "$RUN"/* ]] && umount -l "$mount"
	done
	for link in /sys/class/net/"$PREFIX"[-nqrvxy]*; do
		[ -e "$link" ] && ip link del "${link##*/}"
	done
	for family in -4 -6; do
		ip $family route flush type blackhole proto 98 metric 16777233 2>/dev/null
	done
	for family in inet bridge; do
		for table in "$PREFIX" "$PREFIX-b"; do
			nft list table $family "$table" >/dev/null 2>&1 && nft delete table $family "$table"
		done
	done
	for root in /sys/fs/cgroup/"$PREFIX" /sys/fs/cgroup/*/"$PREFIX"; do
		[ -d "$root" ] && find "$root" -depth -type d -exec rmdir {} +
	done
}

stop() {
	local key value left
	if [ ! -d "$STATE" ] && [ ! -d "$RUN" ]; then
		echo "nothing to stop: there is neither $STATE nor $RUN"
		return
	fi
	[ -d "$DEMO" ] || fail "$STATE was not made by quickstart.sh" "stop that node the way it was started"
	echo "instances"
	delete_instances
	echo "daemons"
	end_daemons
	echo "mounts, bridges, firewall tables, cgroups"
	remove_kernel_objects
	# Somebody else's bridge may have come to rely on forwarding since.
	compgen -G '/sys/class/net/*/bridge' >/dev/null || while read -r key value; do
		[ "$value" = 0 ] && echo 0 >"/proc/sys/${key//.//}"
	done <"$DEMO/before"
	echo "files"
	kept=
	if [ -f "$DEMO/made-user" ]; then
		userdel brume 2>/dev/null || kept=" the user brume (something else runs as brume; later: userdel brume),"
		[ -z "$kept" ] && getent group brume >/dev/null && groupdel brume
	fi
	rm -rf "$STATE" "$RUN"
	left=$({
		find "$STATE" "$RUN" /sys/fs/cgroup/"$PREFIX" /sys/fs/cgroup/*/"$PREFIX" -maxdepth 0
		ls -d /sys/class/net/"$PREFIX"[-nqrvxy]*
		nft list tables | grep -w "$PREFIX"
		grep -oE " ($STATE|$RUN)/[^ ]*" /proc/self/mountinfo
	} 2>/dev/null)
	[ -z "$left" ] || fail "this is still there: $left" "end the program that uses it and run --stop again"
	echo "Nothing is left, but for$kept build/ in this folder and Debian's packages."
}

case ${1:-} in
'') check_settings && start ;;
--with-vm) WITH_VM=1 && check_settings && start ;;
--stop) check_settings && stop ;;
-h | --help) usage ;;
*) usage >&2 && exit 2 ;;
esac
