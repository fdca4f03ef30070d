"""Addresses by DHCPv6: net/dhcp without the daemons.  (DHCP for IPv4: test_node_dhcp.)"""
import re
import socket
import struct
import subprocess


def option(number, data):
    return struct.pack("!HH", number, len(data)) + data


def options(data):
    found = {}
    while data:
        number, size = struct.unpack("!HH", data[:4])
        found[number], data = data[4:4 + size], data[4 + size:]
    return found


def solicit(side, duid):
    """What a client that calls itself `duid` is offered: the options of the answer."""
    with side.inside():
        client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        index = socket.if_nametoindex("eth0")
    with client:
        client.bind(("::", 546))
        client.settimeout(10)
        client.sendto(b"\x01abc" + option(1, duid) + option(3, struct.pack("!III", 1, 0, 0)) + option(8, b"\0\0"),
                      ("ff02::1:2", 547, 0, index))
        answer = client.recv(2048)
    assert answer[:4] == b"\x02abc"
    return options(answer[4:])


def test_a_port_gets_its_ipv6_address(world):
    world.net("zone", "n.p.internal", "p", "dhcp")
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    server = subprocess.Popen(world.host.command("dnsmasq", "-k", f"--conf-file={world.run}/networks/aa11/dhcp.conf"),
                              stderr=subprocess.PIPE, text=True)
    world.servers.append(server)
    for line in server.stderr:
        if "dhcp/2222" in line:
            break
    for it in (web, db):
        mac = bytes.fromhex(re.search(r"ether (\S+)", it.side.ip("link", "show", "eth0"))[1].replace(":", ""))
        # Whatever it calls itself: the port counts.
        for duid in (b"\0\3\0\1" + mac, b"\0\4" + bytes(16)):
            got = solicit(it.side, duid)
            address = options(got[3][12:])[5][:16]
            assert socket.inet_ntop(socket.AF_INET6, address) == it.ipv6
            assert got[23] == socket.inet_pton(socket.AF_INET6, network.gateway6)
            assert got[24] == b"\1n\1p\x08internal\0\5brume\x08internal\0"
