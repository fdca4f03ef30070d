#!/bin/bash
# Networks on an 802.1q interface of the node: instances are in that VLAN only; and what tenants tag themselves is dropped.
#
# lab: kernels=6.12 nics=1 time=600
set -eu
. lab-node
finish() {
	local code=$?
	set +e
	brume delete --force web >/dev/null 2>&1
	(exit $code)
	node_stop
	ip link del br7 2>/dev/null
	ip link del vlan7 2>/dev/null
	for name in far far7 far8; do ip netns del $name 2>/dev/null; done
	exit $code
}
trap finish EXIT
modprobe 8021q
# The far end of the wire has the VLANs 7 and 8, with the same addresses.
ip netns add far
ip link set eth1 netns far
ip -n far link set eth1 up
for id in 7 8; do
	ip netns add far$id
	ip -n far link add link eth1 name vlan$id type vlan id $id
	ip -n far link set vlan$id netns far$id
	ip -n far$id addr add 10.78.7.2/24 dev vlan$id
	ip -n far$id link set vlan$id up
done
ip link add link eth0 name vlan7 type vlan id 7
ip link set vlan7 up
mkdir -p state
echo '{"uplinks": [{"name": "vlan7"}, {"name": "br7"}]}' >state/policy.json
chmod 644 state/policy.json
node_start

page() { # VLAN ADDRESS
	ip netns exec "far$1" python3 -c 'import sys, urllib.request as u; print(u.urlopen("http://%s/" % sys.argv[1], timeout=10).read())' "$2"
}
address() { brume info web -f json | python3 -c 'import json, sys; print(json.load(sys.stdin)["spec"]["ports"][0]["ipv4"])'; }

set -x
lan="--subnet 10.78.7.0/24 --range 10.78.7.100-10.78.7.120 --gateway none"
# shellcheck disable=SC2086 # options
brume network create tagged --driver macvlan --uplink vlan7 $lan
brume launch $HELLO web --network tagged
page 7 "$(address)"
page 8 "$(address)" && exit 1
brume delete --force web
brume network delete tagged
ip link add br7 type bridge
ip link set vlan7 master br7
ip link set br7 up
# shellcheck disable=SC2086
brume network create tagged --driver physical --uplink br7 $lan
brume launch $HELLO web --network tagged
page 7 "$(address)"
page 8 "$(address)" && exit 1
brume delete --force web
brume network delete tagged
set +x
lab-pytest net_hostile -- -k "each_frame or without_guard"
