#!/bin/bash
# A server with two wires: each carries its own traffic between its two ends, one of them tagged (802.1q).
#
# lab: kernels=6.12 nics=2 time=90
set -eux
cleanup() {
	ip link del vlan7 2>/dev/null
	ip netns del far 2>/dev/null
	wait
}
trap cleanup EXIT
ip netns add far
ip link set eth1 netns far
ip link set eth3 netns far
ip -n far addr add 10.77.0.2/24 dev eth1
ip -n far link set eth1 up
ip -n far link set eth3 up
busybox ping -c 2 -W 5 10.77.0.2
# The second wire has no address there yet, and the first does not lead to it.
code=0
busybox ping -c 1 -W 1 10.77.1.2 || code=$?
[ $code != 0 ]
ip link add link eth2 name vlan7 type vlan id 7
ip addr add 10.78.7.1/24 dev vlan7
ip link set vlan7 up
ip -n far link add link eth3 name vlan7 type vlan id 7
ip -n far addr add 10.78.7.2/24 dev vlan7
ip -n far link set vlan7 up
busybox ping -c 2 -W 5 10.78.7.2
echo "over the tagged wire" >page
ip netns exec far python3 -m http.server --bind 10.78.7.2 9000 >served.log 2>&1 &
python3 - <<'END'
import time
import urllib.request

for _ in range(100):
    try:
        print(urllib.request.urlopen("http://10.78.7.2:9000/page", timeout=5).read())
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit("no page came")
END
kill $!
[ "$(cat /sys/class/net/eth2/statistics/rx_packets)" -gt 4 ]
