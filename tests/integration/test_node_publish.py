"""Published ports from outside, from the host and from neighbours; names; the way out; foreign rules."""
import contextlib
import socket
import threading

import images
import kernel
import node as node_module
import pytest
from node import eventually

FOREIGN = """
table inet foreign {
	set friends { type ipv4_addr; elements = { 192.0.2.77 } }
	chain input { type filter hook input priority 0; policy accept; tcp dport 9999 drop; }
	chain nat { type nat hook prerouting priority -90; policy accept; tcp dport 9998 redirect to :9997; }
}
table ip brumelike {
	chain forward { type filter hook forward priority 0; policy accept; }
}
"""


def ask(address, port, protocol="tcp", data=b"hello\n", family=None):
    """What the echo service answers, or None."""
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as link:
        link.settimeout(2)
        try:
            link.connect((address, port))
            link.send(data)
            return link.recv(1000)
        except OSError:
            return None


def answer(address, port, protocol="tcp"):
    return eventually(lambda: ask(address, port, protocol), 15, f"{protocol} from {address}:{port}")


# Debian's busybox has no UDP server: that half of the echo service is a thread of the test, with a
# socket in the instance's network namespace.
ECHO = "exec nc -ll -p 7 -e cat"


@contextlib.contextmanager
def udp_echo(pid, port=7):
    with kernel.inside_network_of(pid):
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        last = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))

    def serve():
        while True:
            data, peer = server.recvfrom(1000)
            if data == b"end":
                return
            server.sendto(data, peer)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        # The sockets keep the namespace, though the instance may be gone.
        last.sendto(b"end", ("127.0.0.1", port))
        thread.join()
        last.close()
        server.close()


@pytest.fixture
def echo(busybox):
    """An instance that echoes on port 7, tcp and udp, published as 1007."""
    node, reference = busybox
    node.launch(reference, "echo", "-p", "1007:7", "-p", "1007:7/udp", command=["sh", "-c", ECHO])
    with udp_echo(node.instance("echo")["status"]["pid"]):
        yield node, reference


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", [node_module.NODE4, node_module.NODE6])
def test_from_outside(echo, protocol, address):
    assert answer(address, 1007, protocol) == b"hello\n"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["127.0.0.1", node_module.NODE4])
def test_from_the_host_itself(echo, protocol, address):
    node, _ = echo
    with node.inside():
        assert answer(address, 1007, protocol) == b"hello\n"


def test_from_a_neighbour_and_from_itself(echo):
    node, reference = echo
    node.launch(reference, "neighbour")
    answer(node_module.NODE4, 1007)
    for name in ("neighbour", "echo"):
        got = node.out("exec", name, "--", "sh", "-c",
                       f"echo hi | nc -w 2 {node_module.NODE4} 1007")
        assert got == "hi\n", name


def test_only_on_the_address_asked_for(busybox):
    node, reference = busybox
    node.launch(reference, "local", "-p", "127.0.0.1:1008:7", command=["sh", "-c", ECHO])
    with node.inside():
        assert answer("127.0.0.1", 1008) == b"hello\n"
        assert ask(node_module.NODE4, 1008) is None
    assert ask(node_module.NODE4, 1008) is None


def test_a_port_goes_with_its_instance(echo):
    node, _ = echo
    assert answer(node_module.NODE4, 1007) == b"hello\n"
    node.cli("stop", "--timeout", "1", "echo")
    assert ask(node_module.NODE4, 1007) is None
    node.cli("start", "echo")
    assert answer(node_module.NODE4, 1007) == b"hello\n"
    node.cli("delete", "--force", "echo")
    assert ask(node_module.NODE4, 1007) is None


def test_names_of_instances(echo):
    node, reference = echo
    node.launch(reference, "asker")
    addresses = node.instance("echo")["spec"]["ports"][0]
    for name in ("echo", "echo.brume.internal"):
        seen = node.out("exec", "asker", "--", "nslookup", name)
        assert addresses["ipv4"] in seen, seen
    assert addresses["ipv6"] in node.out("exec", "asker", "--", "nslookup", "-type=aaaa", "echo")
    assert "PING" in node.out("exec", "asker", "--", "ping", "-c", "1", "-W", "2", "echo")
    assert node.out("exec", "asker", "--", "hostname") == "asker\n"
    node.cli("delete", "--force", "echo")
    assert addresses["ipv4"] not in node.cli("exec", "asker", "--", "nslookup", "echo",
                                             code=None).stdout


def test_neighbours_reach_each_other_by_both_protocols(echo):
    node, reference = echo
    node.launch(reference, "peer")
    addresses = node.instance("echo")["spec"]["ports"][0]
    for address in (addresses["ipv4"], addresses["ipv6"]):
        got = eventually(lambda: node.cli("exec", "peer", "--", "sh", "-c", "echo hi | nc -w 2 "
                                          f"{address.split('/')[0]} 7", code=None).stdout, 15, address)
        assert got == "hi\n"


@pytest.mark.parametrize("address", [node_module.OUTSIDE4, node_module.OUTSIDE6])
def test_the_way_out_is_masqueraded(busybox, address):
    node, reference = busybox
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    node.launch(reference, "walker")
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, 5555))
        server.listen()
        server.settimeout(20)
        caller = node.popen([node.build / "brume", "exec", "walker", "--", "nc", "-w", "5", address,
                             "5555"], env=node.environment(), stdin=-3, stdout=-1)
        link, peer = server.accept()
        link.sendall(b"welcome\n")
        link.close()
        assert caller.stdout.read() == b"welcome\n"
        assert peer[0] in (node_module.NODE4, node_module.NODE6)


def test_rules_that_are_not_ours_stay(echo):
    node, reference = echo
    node.run(["nft", "-f", "-"], input=FOREIGN)

    def foreign():
        return node.run(["nft", "-s", "list", "table", "inet", "foreign"]).stdout + \
            node.run(["nft", "-s", "list", "table", "ip", "brumelike"]).stdout
    before = foreign()
    try:
        node.launch(reference, "more", "-p", "1009:7")
        node.cli("delete", "--force", "more")
        node.kill("agentd")
        node.start_missing()
        node.launch(reference, "more", "-p", "1009:7")
        node.cli("delete", "--force", "more")
        assert foreign() == before
    finally:
        node.run(["nft", "delete", "table", "inet", "foreign"])
        node.run(["nft", "delete", "table", "ip", "brumelike"])


def test_rules_come_back_by_themselves(echo):
    """`systemctl restart nftables` begins with a flush of everything."""
    node, _ = echo
    assert answer(node_module.NODE4, 1007) == b"hello\n"
    for damage in ("flush ruleset", f"delete table inet {node.prefix}"):
        node.run(["nft", *damage.split()])
        assert answer(node_module.NODE4, 1007) == b"hello\n"


def test_another_network(clean):
    reference = clean.registry.push(images.busybox(), "busybox:1")
    clean.cli("network", "create", "quiet", "--ipv4", "10.77.0.0/24")
    try:
        clean.launch(reference, "there", "--insecure", "--network", "quiet")
        clean.launch(reference, "here", "--insecure")
        assert clean.instance("there")["spec"]["ports"][0]["ipv4"].startswith("10.77.0.")
        done = clean.cli("network", "delete", "quiet", code=1)
        assert "there" in done.stderr, done.stderr
        clean.cli("delete", "--force", "there")
    finally:
        clean.cli("network", "delete", "quiet")
    assert "quiet" not in clean.out("network", "list")


def test_overlapping_networks_are_refused(clean):
    subnet = clean.api("GET", "/1.0/networks/default")["spec"]["ipv4"]
    done = clean.cli("network", "create", "twin", "--ipv4", subnet, code=1)
    assert "default" in done.stderr and len(done.stderr.strip().splitlines()) <= 2, done.stderr
