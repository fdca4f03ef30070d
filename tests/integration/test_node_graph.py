"""brume network show --graph: what is drawn is what there is."""
import xml.etree.ElementTree as ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def test_a_drawing(busybox):
    node, image = busybox
    node.cli("network", "create", "inside", "--isolated", "--subnet", "10.71.0.0/24")
    node.cli("launch", image, "web", "-p", "8099:80", "--", "sleep", "1000")
    node.cli("launch", image, "db", "--network", "default", "--network", "inside,ip=10.71.0.9",
             "--no-start")
    try:
        lines = node.out("network", "show", "--graph").splitlines()
        web = node.instance("web")["spec"]["ports"][0]["ipv4"]
        assert lines[0] == "outside" and lines[1].startswith("└─ default  nat  ")
        assert any(line.startswith("   ") and f"web  eth0  {web}, " in line and
                   line.endswith("8099->80") for line in lines)
        assert "inside  isolated  10.71.0.0/24" in lines
        assert "└─ db  eth1  10.71.0.9  (stopped)" in lines
        assert node.out("network", "show", "--graph", "inside").splitlines() == [
            "outside", "inside  isolated  10.71.0.0/24", "└─ db  eth1  10.71.0.9  (stopped)"]
        picture = ElementTree.fromstring(node.out("network", "show", "--graph", "--svg"))
        says = {text.text for text in picture.iter(SVG + "text")}
        assert {"outside", "default", "inside", "web", "db", "node local"} <= says
        assert len(list(picture.iter(SVG + "circle"))) == 5  # the node twice, web once, db twice
        assert 'network "no" does not exist' in node.cli("network", "show", "--graph", "no", code=1).stderr
        assert "--graph" in node.cli("network", "show", "default", "inside", code=2).stderr
        assert "gateway4" in node.out("network", "show", "default")
    finally:
        node.delete_all()
        node.cli("network", "delete", "inside")
