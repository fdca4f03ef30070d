"""Daemons are killed and started again while packets flow everywhere: not one of them is lost."""
import socket
import threading

from netns import UDP
from node import NODE4, OUTSIDE4, eventually
from test_node_bridge import launch, launch_routed, open_node  # noqa: F401 - a fixture
from test_node_router import OUTSIDE

SO_RCVBUFFORCE = 33


class Flow:
    """Numbered datagrams, one way; they wait in the receiver's socket until they are counted."""

    def __init__(self, client, server, target, port, own):
        self.server = server.open("0.0.0.0", UDP)
        self.server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.server.bind(("0.0.0.0", own))
        self.client = client.open(target, UDP)
        self.client.connect((target, port))

        def arrives():
            self.send(0)
            self.server.settimeout(0.5)
            try:
                return self.server.recv(16)
            except TimeoutError:
                return False
        # Whoever has to be asked for, and tracked, is known from here on.
        eventually(arrives, 10, f"the first packet to {target}")

    def send(self, number):
        self.client.send(str(number).encode())

    def received(self):
        self.server.setblocking(False)
        seen = []
        try:
            while True:
                seen.append(int(self.server.recv(16)))
        except BlockingIOError:
            return [number for number in seen if number > 0]

    def close(self):
        self.client.close()
        self.server.close()


def test_not_one_packet_is_lost(open_node):  # noqa: F811
    node = open_node
    one, two = launch_routed(node, "10.87.0.0/24", "10.88.0.0/24")
    web, db = launch(node, "web", "default", "-p", "8187:7/udp"), launch(node, "db", "default")
    # Members of two groups on one network: what is bridged there is judged.
    node.cli("group", "create", "shut")
    node.cli("launch", node.reference, "shut", "--group", "shut", "--", "sleep", "100000")
    flows = {"bridged": Flow(db, web, web.ipv4, 6, 6), "published": Flow(OUTSIDE, web, NODE4, 8187, 7),
             "routed": Flow(one, two, two.ipv4, 6, 6), "out": Flow(one, OUTSIDE, OUTSIDE4, 6, 6)}
    sent, enough = [0], threading.Event()

    def talk():
        while not enough.wait(0.001):
            sent[0] += 1
            for flow in flows.values():
                flow.send(sent[0])
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        for name in ("agentd", "brumed", "agentd", "keeper", "agentd"):
            before = sent[0]
            node.kill(name)
            node.start_missing()
            node.wait_ready()
            eventually(lambda: sent[0] > before + 100, 20, "packets")
    finally:
        enough.set()
        thread.join()
    for name, flow in flows.items():
        assert flow.received() == list(range(1, sent[0] + 1)), name
        flow.close()
    node.cli("delete", "--force", "shut")
    node.cli("group", "delete", "shut")
