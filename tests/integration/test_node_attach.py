"""Attach and interactive launches: terminals, input, many people, killed daemons."""
import os
import signal
import subprocess

import images
import pytest
from node import Failure, eventually


@pytest.fixture
def own(node):
    """A node whose daemons may be killed, and an image: (node, reference)."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    return node, reference


def pipe(node, *args, **more):
    """The CLI with pipes at all three ends."""
    return node.popen([node.build / "brume", *args], env=node.environment(), stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_launch_it_is_a_shell(busybox):
    node, reference = busybox
    terminal = node.terminal("launch", "-it", "--rm", reference, "shell", "--", "sh")
    terminal.type("stty size; tty; echo $TERM\r")
    terminal.expect("24 80")
    terminal.expect("/dev/pts/0")
    terminal.expect("xterm")
    terminal.resize(120, 40)
    terminal.type("stty size\r")
    terminal.expect("40 120")
    terminal.type("echo $((40 + 2))-ready; cat\r")
    terminal.expect("42-ready")  # the shell reads no more
    terminal.type("through it\r")
    terminal.expect("through it")  # the echo
    terminal.expect("through it")  # now it is known to run
    terminal.type("\x03")  # Ctrl-C is a key like any other
    terminal.expect("/ # ")  # which forgets what was typed ahead
    terminal.type("exit 7\r")
    assert terminal.finish() == 7
    assert node.api("GET", "/1.0/instances/shell", raw=True)[0] == 404, "its name is free at once"


def test_launch_i_reads_our_input_to_its_end(busybox):
    node, reference = busybox
    text = "".join(f"line {i}\n" for i in range(50000))
    done = node.cli("launch", "-i", "--rm", reference, "--", "sh", "-c", "cat; exit 5", input=text,
                    code=5)
    assert done.stdout == text


def test_launch_a_shows_both_outputs_and_the_exit_code(busybox):
    node, reference = busybox
    done = node.cli("launch", "-a", "--rm", reference, "--", "sh", "-c",
                    "printf one; echo two >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("one", "two\n")


def test_a_launch_that_cannot_start_leaves_nothing(busybox):
    node, reference = busybox
    done = node.cli("launch", "-a", "--rm", reference, "wrong", "--", "/no/such/program", code=127)
    assert "/no/such/program" in done.stderr
    assert node.api("GET", "/1.0/instances/wrong", raw=True)[0] == 404


@pytest.mark.parametrize("program, code", [
    ("no-such-program", 127), ("/no/such/program", 127), ("/etc", 126), ("/etc/passwd", 126),
    ("/broken", 126)])
def test_a_program_that_cannot_run_gives_the_codes_of_a_shell(busybox, program, code):
    node, reference = busybox
    if program == "/broken":
        broken = images.Layer().file("broken", b"\x7fELF nonsense", mode=0o755)
        image = images.Image([images.busybox_layer(images.BUSYBOX), broken], {})
        reference = node.registry.push(image, "broken:1")
        node.cli("image", "pull", "--insecure", reference)
    done = node.cli("launch", "-a", reference, "wrong", "--", program, code=code)
    assert program in done.stderr and len(done.stderr.splitlines()) == 1
    instance = node.api("GET", "/1.0/instances/wrong")
    assert (instance["status"]["state"], instance["status"]["exit_code"]) == ("failed", code)
    assert node.cli("start", "wrong", code=1).stderr
    node.cli("delete", "wrong")


def test_it_needs_a_terminal(busybox):
    node, reference = busybox
    done = node.cli("launch", "-it", reference, "--", "sh", code=2, input="")
    assert "terminal" in done.stderr
    done = node.cli("launch", "-it", "--detach-keys", "ctrl-", reference, "--", "sh", code=2)
    assert "--detach-keys" in done.stderr or "terminal" in done.stderr
    done = node.cli("launch", "-a", "-d", reference, code=2)
    assert "--attach" in done.stderr


def test_many_attach_to_one_terminal(busybox):
    node, reference = busybox
    node.launch(reference, "shared", "-dit", command=["sh"])
    first, second = (node.terminal("attach", "shared") for _ in range(2))
    first.type("echo from-$((40 + 2))-first\r")
    first.expect("from-42-first")
    second.expect("from-42-first")
    second.type("echo from-$((40 + 3))-second\r")
    first.expect("from-43-second")
    # Who comes later sees the last screenful.
    third = node.terminal("attach", "shared")
    third.expect("from-43-second")
    for terminal in (first, third):
        terminal.type("\x10\x11")
        assert terminal.finish() == 0
    second.type("exit 9\r")
    assert second.finish() == 9
    assert node.wait_state("shared", "stopped")["status"]["exit_code"] == 9
    assert "from-42-first" in node.out("logs", "shared")


def test_detach_keys_of_ones_own(busybox):
    node, reference = busybox
    node.launch(reference, "keys", "-dit", command=["cat"])
    terminal = node.terminal("attach", "--detach-keys", "ctrl-x,q", "keys")
    terminal.type("\x10\x11a\x18b\r")
    terminal.expect("a")
    terminal.type("\x18q")
    assert terminal.finish() == 0
    assert node.instance("keys")["status"]["state"] == "running"


def test_attach_without_a_terminal(busybox):
    node, reference = busybox
    node.launch(reference, "plain", command=["sh", "-c", "echo before; trap 'echo term; exit 4' TERM; "
                                             "while :; do sleep 0.1; done"])
    attached = pipe(node, "attach", "--sig-proxy", "plain")
    assert attached.stdout.readline() == "before\n"
    attached.send_signal(signal.SIGTERM)
    assert attached.communicate(timeout=20)[0] == "term\n"
    assert attached.returncode == 4
    done = node.cli("attach", "plain", code=1)
    assert "not running" in done.stderr


def test_ctrl_c_leaves_what_has_no_terminal(busybox):
    node, reference = busybox
    node.launch(reference, "stays", command=["sh", "-c", "echo here; sleep 1000000"])
    attached = pipe(node, "attach", "stays")
    assert attached.stdout.readline() == "here\n"
    attached.send_signal(signal.SIGINT)
    assert "left stays" in attached.communicate(timeout=20)[1]
    assert attached.returncode == 0
    assert node.instance("stays")["status"]["state"] == "running"


def test_open_input_survives_its_writers_and_once_does_not(busybox):
    node, reference = busybox
    node.launch(reference, "open", "-di", command=["cat"])
    for word in ("one", "two"):
        attached = pipe(node, "attach", "open")
        attached.stdin.write(word + "\n")
        attached.stdin.flush()
        line = attached.stdout.readline()
        while line != word + "\n":
            line = attached.stdout.readline()
        attached.kill()
        attached.communicate()
    assert node.instance("open")["status"]["state"] == "running"
    # -i of a launch: the end of our input, or of us, is the end of its input.
    launched = pipe(node, "launch", "-i", reference, "once", "--", "sh", "-c", "cat; exit 6")
    launched.stdin.write("word\n")
    launched.stdin.flush()
    assert launched.stdout.readline() == "word\n"
    launched.kill()
    launched.communicate()
    assert node.wait_state("once", "stopped")["status"]["exit_code"] == 6


def test_output_that_cannot_be_shown_is_an_error(busybox):
    """The disk that we write to is full: nothing is asked for again, and the instance goes on."""
    node, reference = busybox
    node.launch(reference, "chatty", command=["sh", "-c", "while :; do [ -e /go ] && echo line; sleep 0.1; done"])
    with open("/dev/full", "w") as full:
        attached = node.popen([node.build / "brume", "attach", "chatty"], env=node.environment(), stdout=full,
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        node.sh("chatty", "touch /go")
        err = attached.communicate(timeout=30)[1]
    assert attached.returncode == 1 and "No space left" in err, err
    assert node.instance("chatty")["status"]["state"] == "running"
    node.cli("delete", "--force", "chatty")


def test_events_that_cannot_be_shown_are_an_error(busybox):
    node, reference = busybox
    with open("/dev/full", "w") as full:
        watcher = node.popen([node.build / "brume", "events", "--cursor", "0"], env=node.environment(), stdout=full,
                             stderr=subprocess.PIPE, text=True)
        node.launch(reference, "short", command=["true"], code=None)
        err = watcher.communicate(timeout=30)[1]
    assert watcher.returncode == 1 and "No space left" in err, err
    node.cli("delete", "--force", "short")


def test_who_does_not_read_holds_nobody_up(busybox):
    node, reference = busybox
    node.launch(reference, "chatty", "-dit", "--log-max-size", "64K",
                command=["sh", "-c", "echo ready; read x; i=0; while [ $i -lt 60000 ]; do "
                         "echo $i 0123456789012345678901234567890123456789; i=$((i+1)); done; exit 8"])
    sleeper = pipe(node, "attach", "--no-stdin", "chatty")
    assert sleeper.stdout.readline() == "ready\n"
    os.kill(sleeper.pid, signal.SIGSTOP)
    starter = node.terminal("attach", "chatty")
    starter.type("go\r")
    assert node.wait_state("chatty", "stopped", 60)["status"]["exit_code"] == 8
    os.kill(sleeper.pid, signal.SIGCONT)
    out, err = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 8, err
    assert out.splitlines()[-1].startswith("59999 ")
    starter.finish()


@pytest.mark.parametrize("how", ["keeper", "agentd", "brumed", "reexec"])
def test_a_terminal_survives(own, how):
    node, reference = own
    node.launch(reference, "tough", "-dit", command=["sh"])
    terminal = node.terminal("attach", "tough")
    for round in range(3):
        terminal.type(f"echo before-$(({round} + 100))\r")
        terminal.expect(f"before-{round + 100}")
        if how == "reexec":
            os.kill(node.pid_of("keeper"), signal.SIGHUP)
        else:
            node.kill(how)
            node.start_missing()
            node.wait_ready()
        # What was typed while nobody listened is lost; that it was not is not asked for.
        def answered():
            if terminal.process.poll() is not None:
                raise RuntimeError(f"the CLI has ended: {terminal.seen}")
            terminal.type(f"echo after-$(({round} + 200))\r")
            try:
                terminal.expect(f"after-{round + 200}", timeout=1)
            except Failure:
                return False
            return True
        eventually(answered, 30, "an answer")
    terminal.type("exit 3\r")
    assert terminal.finish() == 3
    assert "after-202" in node.out("logs", "tough")


@pytest.mark.parametrize("how", ["brumed", "agentd"])
def test_an_exit_code_outlives_the_instance(own, how):
    """The stream breaks, and the instance ends and is deleted before its client can look again."""
    node, reference = own
    launched = pipe(node, "launch", "-a", "--rm", reference, "brief", "--", "sh", "-c",
                    "trap 'exit 7' TERM; echo here; while :; do sleep 0.1; done")
    assert launched.stdout.readline() == "here\n"
    os.kill(launched.pid, signal.SIGSTOP)
    node.kill(how)
    node.wait_ready()
    node.cli("exec", "brief", "--", "kill", "-TERM", "1")
    eventually(lambda: node.api("GET", "/1.0/instances/brief", raw=True)[0] == 404, 20, "its deletion")
    node.launch(reference, "brief", command=["sleep", "1000"])
    os.kill(launched.pid, signal.SIGCONT)
    out, err = launched.communicate(timeout=30)
    assert (launched.returncode, out) == (7, ""), err


def test_the_input_survives_the_keeper(own):
    node, reference = own
    launched = pipe(node, "launch", "-i", reference, "reader", "--", "sh", "-c",
                    "while read x; do echo got $x; done; exit 2")
    for number in range(6):
        launched.stdin.write(f"{number}\n")
        launched.stdin.flush()
        assert launched.stdout.readline() == f"got {number}\n"
        if number % 2:
            node.kill("keeper")
            node.start_missing()
        else:
            os.kill(node.pid_of("keeper"), signal.SIGHUP)
    out, err = launched.communicate(timeout=30)
    assert launched.returncode == 2, err
