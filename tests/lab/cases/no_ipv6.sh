#!/bin/sh
# A server whose kernel has IPv6 switched off: a node with its default network works all the same.
#
# lab: kernels=6.12 cmdline="ipv6.disable=1 security=selinux selinux=1" time=240
set -eux
[ ! -e /proc/sys/net/ipv6 ]
cleanup() { kill "$brumed" "$registry" 2>/dev/null; wait; }
groupadd --system brume
useradd --system --gid brume --no-create-home brume
brumed --supervise --state "$PWD/state" --run "$PWD/run" >brumed.log 2>&1 &
brumed=$!
printf 'version: 0.1\nstorage: { filesystem: { rootdirectory: %s/registry } }\nhttp: { addr: "127.0.0.1:5000" }\n' \
	"$PWD" >registry.yml
docker-registry serve registry.yml >registry.log 2>&1 &
registry=$!
trap 'cleanup; cat brumed.log' EXIT
export BRUME_HOST="unix://$PWD/run/brumed.sock"
# Neither has an event to wait for from here.
set +x
for _ in $(seq 120); do
	brume info 2>/dev/null | grep -qw online && break
	sleep 0.5
done
for _ in $(seq 60); do
	python3 "$LAB/tools/image_builder.py" --push 127.0.0.1:5000/hello:1 2>/dev/null && break
	sleep 0.5
done
set -x
brume image pull --insecure 127.0.0.1:5000/hello:1
brume launch 127.0.0.1:5000/hello:1 web -p 8080:80
brume info web
python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/", timeout=20).read())'
brume exec web -- true
brume delete --force web
brume network list
