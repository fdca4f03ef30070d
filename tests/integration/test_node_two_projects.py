"""Two projects draw the same: the same names, the same subnets, the same addresses; neither notices the other."""
import json

import pytest
from netns import cannot_reach
from node import NODE4, OUTSIDE4, eventually
from test_node_groups import make_project, own  # noqa: F401 - a fixture
from test_node_router import OUTSIDE, Side, talk_all

SUBNET, ADDRESS, PEER = "10.97.0.0/24", "10.97.0.5", "10.97.0.6"


class Project:
    def __init__(self, node, name, floating):
        self.node, self.name, self.floating = node, name, floating
        for words in (("image", "pull", "--insecure", node.reference), ("group", "create", "open"),
                      ("group", "allow", "--in", "any", "open"),
                      ("network", "create", "--isolated", "--subnet", SUBNET, "back"),
                      ("router", "create", "border", "--network", "back"),
                      *(("launch", node.reference, it, "--network", f"back,ip={address},group=open", "--", "sleep", "100000")
                        for it, address in (("web", ADDRESS), ("db", PEER))),
                      ("router", "floating", "add", "border", floating, "web")):
            self.cli(*words)
        self.web, self.db = self.side("web"), self.side("db")

    def cli(self, *words, **more):
        return self.node.cli("--project", self.name, *words, **more)

    def json(self, *words):
        return json.loads(self.cli(*words, "-f", "json").stdout)

    def side(self, name):
        return Side(self.json("info", name)["status"]["pid"])


@pytest.fixture
def two(own):  # noqa: F811
    node, node.reference = own
    make_project(node, "other")
    return [Project(node, "default", "192.0.2.71"), Project(node, "other", "192.0.2.72")]


def works(project):
    assert talk_all(project.web, project.db, PEER) == ADDRESS
    assert talk_all(project.web, OUTSIDE, OUTSIDE4) == project.floating
    assert talk_all(project.db, OUTSIDE, OUTSIDE4) == NODE4
    assert talk_all(OUTSIDE, project.web, project.floating) == OUTSIDE4


def test_the_same_drawing_twice(two):
    one, other = two
    assert len({project.json("network", "show", "back")["status"]["bridge"] for project in two}) == 2
    for project in two:
        works(project)
        assert [it["meta"]["name"] for it in project.json("network", "list") if it["meta"]["name"] != "default"] == ["back"]
        assert project.json("network", "trace", "--from", "web", "--to", "db")["verdict"] == "delivered"
    # A listener in one project is not the other's neighbour.
    with other.db.listen(99):
        assert cannot_reach(one.web, PEER, 99)
    # What is refused names nobody else's things.
    one.cli("network", "create", "open", "--subnet", "10.98.0.0/24")
    done = other.cli("network", "create", "mine", "--subnet", "10.98.0.0/25", code=1)
    assert "overlaps with a network of another project" in done.stderr and '"open"' not in done.stderr
    assert "isolated" in done.stderr
    # One goes, with everything; the other stays.
    for words in (("delete", "--force", "web", "db"), ("router", "delete", "border"), ("network", "delete", "back", "open")):
        one.cli(*words)
    works(other)
    node = other.node
    node.kill("agentd")
    node.start_missing()
    node.wait_ready()
    works(other)
    for words in (("delete", "--force", "web", "db"), ("router", "delete", "border"), ("network", "delete", "back"),
                  ("group", "delete", "open"), ("image", "delete", node.reference)):
        other.cli(*words)
    one.cli("group", "delete", "open")
    eventually(lambda: not [link for link in node.links() if link.startswith(f"{node.prefix}n")], 10, "the end of routers")
