#!/bin/bash
# Two servers on one wire: what one publishes the other gets, by IPv4 and IPv6, small and large.
#
# lab: kernels=6.12 servers=2 nics=1 time=300 memory=1024 default=no
set -eu
other=$((3 - LAB_SERVER))
ping() { busybox ping -c 3 -W 5 "$1"; }
[ "$(ip -4 -o addr show dev eth0 | awk '{ print $4 }')" = "10.77.0.$LAB_SERVER/24" ]
lab barrier up
ping 10.77.0.$other
ping fd77:0::$other
head -c 4000000 /dev/urandom >data
if [ "$LAB_SERVER" = 1 ]; then
	. lab-node
	trap node_stop EXIT
	node_start
	brume launch $HELLO web -p 8080:80
	python3 -m http.server --bind :: 9000 >served.log 2>&1 &
	node_processes+=($!)
	node_until 30 python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:9000/data")'
	sha256sum <data >sum
	lab barrier serving
	lab barrier fetched
	brume delete --force web
else
	lab barrier serving
	python3 - <<'END'
import hashlib
import urllib.request


def get(url):
    return urllib.request.urlopen(url, timeout=60).read()


assert b"brume" in get("http://10.77.0.1:8080/"), "the page of the instance on the other server"
for server in ("10.77.0.1", "[fd77:0::1]"):
    wanted = get(f"http://{server}:9000/sum").split()[0].decode()
    assert hashlib.sha256(get(f"http://{server}:9000/data")).hexdigest() == wanted, server
print("pages and data came over the wire")
END
	lab barrier fetched
fi
