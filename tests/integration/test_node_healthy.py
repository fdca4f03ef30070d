"""`brume wait --condition healthy`, and health in `brume info`."""
import subprocess


def test_wait_until_healthy(busybox):
    node, reference = busybox
    waiting = ["sh", "-c", "sleep 1; touch /ready; exec sleep 1000"]
    node.launch(reference, "web", "--health-cmd", "test -e /ready", "--health-interval", "100ms",
                "--health-retries", "100", command=waiting)
    assert node.out("wait", "--condition", "healthy", "-t", "60", "web") == "web: healthy\n"
    assert "health         healthy" in node.out("info", "web")
    node.launch(reference, "sick", "--health-cmd", "echo it hurts; false", "--health-interval", "100ms",
                "--health-retries", "1", command=("sleep", "1000"))
    waiter = node.popen([node.build / "brume", "wait", "--condition", "healthy", "sick"],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=node.environment())
    node.wait_instance("sick", lambda it: it["status"].get("health", {}).get("state") == "unhealthy")
    shown = node.out("info", "sick")
    assert "unhealthy" in shown and "it hurts" in shown
    node.cli("delete", "--force", "sick")
    assert "was deleted" in waiter.communicate(timeout=30)[1] and waiter.returncode == 1
