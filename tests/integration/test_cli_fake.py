"""The command line against a server of the test's own: what goes over the wire, what is shown, and
what happens when a server misbehaves.  Needs no node."""
import base64
import collections
import csv
import fcntl
import hashlib
import io
import json
import os
import pathlib
import pty
import select
import signal
import socket
import ssl
import struct
import subprocess
import tarfile
import termios
import threading
import time

import pytest

Request = collections.namedtuple("Request", "method path headers body")


class Stream:
    """The server's end of one connection."""

    def __init__(self, connection):
        self.connection, self.file = connection, connection.makefile("rb")
        self.upgraded = False

    def read_request(self):
        line = self.file.readline()
        if not line:
            return None
        method, path, _ = line.decode().split()
        headers = {}
        for line in iter(self.file.readline, b"\r\n"):
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)

    def send(self, data):
        self.connection.sendall(data)

    def answer(self, document, status=200, chunked=False):
        text = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        if chunked:
            parts = [text[i:i + 7] for i in range(0, len(text), 7)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
            self.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
        else:
            self.send(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)

    def sync(self, metadata, **more):
        self.answer({"type": "sync", "metadata": metadata}, **more)

    def async_(self, operation):
        self.answer({"type": "async", "operation": "/1.0/operations/" + operation["meta"]["name"],
                     "metadata": operation}, 202)

    def error(self, status, words, hint=None):
        document = {"type": "error", "error_code": status, "error": words}
        self.answer({**document, **({"hint": hint} if hint else {})}, status)

    # -- WebSocket -------------------------------------------------------------------------------

    def upgrade(self, request, first=b""):
        self.upgraded = True
        magic = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        self.send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode() + first)

    @staticmethod
    def frame(opcode, data):
        if len(data) < 126:
            size = bytes([len(data)])
        elif len(data) < 65536:
            size = b"\x7e" + struct.pack(">H", len(data))
        else:
            size = b"\x7f" + struct.pack(">Q", len(data))
        return bytes([0x80 | opcode]) + size + data

    def text(self, document):
        self.send(self.frame(1, json.dumps(document).encode()))

    def binary(self, channel, data):
        self.send(self.frame(2, bytes([channel]) + data))

    def close(self, code=1000):
        self.send(self.frame(8, struct.pack(">H", code)))

    def receive(self):
        """(opcode, data) of the next frame, or None at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        assert head[1] & 0x80, "a client masks"
        size = head[1] & 0x7f
        if size == 126:
            size, = struct.unpack(">H", self.file.read(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.file.read(8))
        mask = self.file.read(4)
        data = self.file.read(size)
        return head[0] & 0xf, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

    def receive_json(self):
        opcode, data = self.receive()
        assert opcode == 1
        return json.loads(data)


class Server:
    """Serves `handle(stream, request)` on a Unix socket; keeps what was asked and what went wrong."""

    def __init__(self, path, context=None):
        self.requests, self.failures, self.context = [], [], context
        self.handle = lambda stream, request: stream.error(404, "nothing is here")
        if context:
            self.listener = socket.create_server(("127.0.0.1", 0))
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(64)
        self.path = path
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            stream = Stream(connection)
            while request := stream.read_request():
                self.requests.append(request)
                if self.handle(stream, request) == "close" or stream.upgraded:
                    break
        except (ConnectionError, BrokenPipeError, ssl.SSLError):
            pass
        except Exception as failure:  # pylint: disable=broad-except
            self.failures.append(repr(failure))
        finally:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def asked(self):
        return [(r.method, r.path) for r in self.requests]


def operation(state="done", revision=5, action="launch", name="web", **status):
    return {"kind": "operation", "meta": {"name": "0f" * 16, "revision": revision},
            "spec": {"action": action, "target": {"kind": "instance", "name": name}},
            "status": {"state": state, **status}}


def instance(name="web", state="running", **spec):
    return {"kind": "instance", "meta": {"name": name, "uid": "ab" * 16, "project": "default"},
            "spec": {"type": "container", "image": "reg.test/web:1", "ports": [{"ipv4": "10.90.0.2"}],
                     "publish": [{"host_ip": "", "host_port": 8080, "port": 80, "protocol": "tcp"}],
                     **spec},
            "status": {"state": state, "started": "2020-01-01T00:00:00Z", "restarts": 0}}


@pytest.fixture
def program(build):
    path = build / "brume"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return str(path)


@pytest.fixture
def server(scratch):
    server = Server(str(pathlib.Path(scratch) / "s.sock"))
    yield server
    server.listener.close()
    assert not server.failures


@pytest.fixture
def brume(program, server):
    """Runs a verb against the server; checks the exit code and that failures print no result."""
    def run(*args, code=0, env=None, text=True, **more):
        done = subprocess.run([program, *args], capture_output=True, text=text, timeout=30, check=False,
                              env={**os.environ, "BRUME_HOST": "unix://" + server.path,
                                   **(env or {})}, **more)
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        if code in (1, 2) and text and args[0] != "exec":
            assert done.stdout == ""
            assert done.stderr.startswith("brume: ")
        return done
    return run


# -- a launch that stays --------------------------------------------------------------------------

class Launching:
    """A server at which one instance is launched, attached to and started; `attached` says what goes
    over its stream once the start is being waited for."""

    def __init__(self, server, attached):
        self.server, self.attached = server, attached
        self.starting, self.may_run = threading.Event(), threading.Event()
        self.after = lambda stream, request: stream.error(404, "instance web: there is none")
        server.handle = self.handle

    @staticmethod
    def operation(state):
        document = operation(state)
        document["spec"]["target"]["uid"] = "ab" * 16
        return document

    def handle(self, stream, request):
        if request.method == "POST":
            stream.async_(self.operation("done"))
        elif request.method == "PUT":
            stream.async_(self.operation("running"))
        elif "/wait" in request.path:
            self.starting.set()
            assert self.may_run.wait(20), "the stream's end of it did not come so far"
            stream.sync(self.operation("done"))
        elif "/attach" in request.path:
            stream.upgrade(request)
            stream.text({"cursor": "abababab-0-0"})
            assert self.starting.wait(20)
            self.attached(self, stream)
        elif "/events" in request.path:
            stream.upgrade(request)
        else:
            self.after(stream, request)


def test_a_launch_answers_pings_while_the_instance_starts(brume, server):
    """The server ends streams whose other side is silent; a machine may boot for minutes."""
    def attached(launching, stream):
        stream.send(stream.frame(9, b"alive?"))
        assert stream.receive() == (10, b"alive?")
        stream.binary(1, b"early\n")
        stream.text({"cursor": "abababab-6-0"})
        stream.text({"exit_code": 7})
        stream.close()
        assert stream.receive()[0] == 8
        launching.may_run.set()
    Launching(server, attached)
    assert brume("launch", "-a", "--rm", "web:1", "web", code=7).stdout == "early\n"


def test_an_instance_that_has_ended_while_it_is_attached_to(brume, server):
    """Everything comes at once, the stream's end as well."""
    def handle(stream, request):
        if "/attach" not in request.path:
            return stream.sync(instance())
        parts = [stream.frame(1, json.dumps({"cursor": "abababab-0-0"}).encode()),
                 stream.frame(2, b"\1all\n"), stream.frame(1, json.dumps({"cursor": "abababab-4-0"}).encode()),
                 stream.frame(1, json.dumps({"exit_code": 8}).encode()), stream.frame(8, struct.pack(">H", 1000))]
        stream.upgrade(request, b"".join(parts))
        return None
    server.handle = handle
    assert brume("attach", "web", code=8).stdout == "all\n"


@pytest.mark.parametrize("name_taken", [False, True])
@pytest.mark.parametrize("result, code", [({"exit_code": 9}, 9), ({}, 1)])
def test_the_deletion_knows_the_exit_code(brume, server, name_taken, result, code):
    """The stream was lost, and the instance is gone when the client looks again."""
    def after(stream, request):
        if request.path.startswith("/1.0/operations"):
            deletion = Launching.operation("done")
            deletion["spec"]["action"] = "delete"
            deletion["status"]["result"] = result
            return stream.sync([operation(action="delete", result={"exit_code": 3}), deletion])
        other = instance(state="stopped")
        other["meta"]["uid"] = "cd" * 16
        return stream.sync(other) if name_taken else stream.error(404, "there is none")
    launching = Launching(server, lambda launching, stream: launching.may_run.set())
    launching.after = after
    done = brume("launch", "-a", "--rm", "web:1", "web", code=code)
    assert ("how it ended is not known" in done.stderr) == (code == 1)


# -- requests and results -------------------------------------------------------------------------

def test_list(brume, server):
    server.handle = lambda s, r: s.sync([instance(), instance("db", "failed")], chunked=True)
    done = brume("list")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "STATE", "IMAGE", "IPV4", "PORTS", "UPTIME", "RESTARTS"]
    assert lines[1].split()[:6] == ["web", "container", "running", "reg.test/web:1", "10.90.0.2", "8080->80"]
    assert "\033" not in done.stdout
    assert server.asked() == [("GET", "/1.0/instances?recursion=1")]
    assert brume("ls", "-q").stdout == "web\ndb\n"
    assert json.loads(brume("list", "-f", "json").stdout)[1]["meta"]["name"] == "db"
    assert brume("list", "--format=csv").stdout.startswith("NAME,TYPE,STATE,")
    assert brume("list", "-fplain").stdout.split("\t")[0] == "web"
    brume("list", "--project", "a b")
    assert server.asked()[-1] == ("GET", "/1.0/instances?recursion=1&project=a%20b")


def test_info_in_every_format(brume, server):
    server.handle = lambda s, r: s.sync({**instance(), "status": {"state": "running", "error": 'a "b", c'}})
    assert brume("info", "web").stdout.startswith("name           web\ntype           container\n")
    assert json.loads(brume("info", "-f", "json", "web").stdout)["meta"]["name"] == "web"
    plain = brume("info", "-f", "plain", "web").stdout.splitlines()
    assert plain[0] == "name\tweb" and all(len(line.split("\t")) == 2 for line in plain)
    rows = list(csv.reader(io.StringIO(brume("info", "-f", "csv", "web").stdout)))
    assert rows[:2] == [["FACT", "VALUE"], ["name", "web"]] and ["error", 'a "b", c'] in rows


def test_launch(brume, server):
    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation("running"))
        elif "/wait" in request.path:
            stream.sync(operation("running", 6) if "revision=5" in request.path else operation())
        else:
            stream.sync(instance())
    server.handle = handle
    done = brume("launch", "web:1", "web", "-p", "8080:80", "-m", "64M", "sh", "-c", "exit 1")
    assert done.stdout == "web is running  10.90.0.2  8080->80\n"
    body = json.loads(server.requests[0].body)
    assert body["image"] == "web:1" and body["name"] == "web" and body["command"] == ["sh", "-c", "exit 1"]
    assert body["limits"]["memory_bytes"] == 64 << 20
    assert [p.split("?")[0] for _, p in server.asked()] == [
        "/1.0/instances", *["/1.0/operations/" + "0f" * 16 + "/wait"] * 2, "/1.0/instances/web"]
    assert brume("launch", "-q", "web:1").stdout == "web\n"


def test_operation_fails(brume, server):
    server.handle = lambda s, r: s.async_(operation("failed", error="no such image"))
    done = brume("launch", "web:1", "web", code=1)
    assert done.stderr == "brume: launching web: no such image\n"


def test_server_refuses(brume, server):
    server.handle = lambda s, r: s.error(409, "instance web: it exists", "take another name")
    done = brume("launch", "web:1", "web", code=1)
    assert done.stderr == "brume: instance web: it exists\nhint: take another name\n"
    server.handle = lambda s, r: s.error(400, "name: bad\x1b[2Jchars")
    assert brume("info", "x", code=1).stderr == ("brume: name: bad?[2Jchars\n"
                                                 "hint: see `brume info --help`\n")
    server.handle = lambda s, r: s.error(404, "network x: there is none", "for programs")
    assert brume("network", "info", "x", code=1).stderr.endswith(
        "hint: `brume network list` shows what there is\n")
    server.handle = lambda s, r: s.error(404, "network x: there is none", "did you mean 'y'?")
    assert brume("network", "info", "x", code=1).stderr.endswith("hint: did you mean 'y'?\n")
    server.handle = lambda s, r: s.error(409, "instance x: runs", "for programs")
    assert brume("rm", "x", code=1).stderr.endswith("hint: brume delete --force x\n")


def test_several_names(program, server):
    def handle(stream, request):
        if request.method != "DELETE":
            return stream.sync(operation())
        if "/missing" in request.path:
            return stream.error(404, "instance missing: there is none")
        return stream.async_(operation("running"))
    server.handle = handle
    done = subprocess.run([program, "delete", "-f", "a", "missing", "b"],
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "BRUME_HOST": "unix://" + server.path})
    assert (done.returncode, done.stdout) == (1, "a: deleted\nb: deleted\n")
    assert done.stderr == ("brume: instance missing: there is none\n"
                           "hint: `brume list` shows what there is\n")
    assert server.asked()[:3] == [("DELETE", f"/1.0/instances/{n}?force=1")
                                  for n in ("a", "missing", "b")]


def test_state(brume, server):
    server.handle = lambda s, r: s.async_(operation())
    brume("stop", "-t", "3", "web")
    assert json.loads(server.requests[-1].body) == {"action": "stop", "timeout_s": 3}
    brume("restart", "--force", "web")
    assert json.loads(server.requests[-1].body) == {"action": "restart", "force": True}
    assert server.requests[-1].path == "/1.0/instances/web/state"


def test_names_are_escaped(brume, server):
    server.handle = lambda s, r: s.sync(instance())
    brume("image", "info", "reg.test:5000/a/b:1")
    assert server.asked()[-1][1] == "/1.0/images/reg.test%3A5000%2Fa%2Fb%3A1"


# -- usage ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, words", [
    (["lunch"], 'did you mean "launch"?'),
    (["image", "pul"], 'did you mean "pull"?'),
    (["image"], "a verb is missing"),
    (["list", "--formt", "json"], 'did you mean "--format"?'),
    (["list", "-f", "xml"], "json"),
    (["list", "extra"], "one argument too many"),
    (["start"], "argument is missing"),
    (["launch", "web", "-p", "x"], "--publish"),
    (["launch", "web", "--memory", "x"], "--memory"),
    (["launch", "web", "Bad_Name"], "name"),
    (["logs", "--tail", "x", "web"], "--tail"),
    (["logs", "--since", "yesterday", "web"], "--since"),
    (["logs", "--until", "10x", "web"], "--until"),
    (["exec", "web"], "command"),
    (["image", "pull", "x", "--username", "me"], "--password-stdin"),
    (["list", "--host", "ftp://x"], "https://"),
    (["list", "--host", "https://x", "--socket", "/y"], "together"),
])
def test_usage(program, server, args, words):
    done = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.startswith("brume: ") and words in done.stderr
    assert not server.requests


def test_help(brume):
    assert "launch" in brume("--help").stdout
    assert "Examples:" in brume("launch", "--help").stdout
    assert brume("help", "image", "pull").stdout == brume("image", "pull", "--help").stdout
    assert brume("--version").stdout.startswith("brume ")


def test_the_manual_has_every_verb_and_option(brume):
    manual = (pathlib.Path(__file__).resolve().parents[2] / "docs/man/brume.1").read_text()

    def rows(text):
        for line in text.splitlines():
            if line.startswith("  ") and not line.startswith("   brume"):
                yield line.split()

    def verbs_of(text):
        part = text.split("Verbs:\n")[1].split("\n\n")[0]
        return [line.split()[0].rstrip(",") for line in part.splitlines() if line[2] != " "]
    for verb in verbs_of(brume("--help").stdout):
        text = brume(verb, "--help").stdout
        names = [f"{verb} {v}" for v in verbs_of(text)] if "\nVerbs:" in text else [verb]
        for name in names:
            assert f"\n.It Cm {name}" in manual, name
            for row in rows(brume(*name.split(), "--help").stdout):
                for word in row[:2]:
                    if word.startswith("--") and len(word) > 2:
                        assert f"Fl -{word[2:]}" in manual, (name, word)


def test_no_server(program, scratch):
    done = subprocess.run([program, "--socket", f"{scratch}/none.sock", "list"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "hint: brumed is not running" in done.stderr


def test_socket_not_allowed(program, server):
    os.chmod(server.path, 0o600)
    pathlib.Path(server.path).parent.chmod(0o711)
    done = subprocess.run([program, "--socket", server.path, "list"], capture_output=True, text=True,
                          check=False, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert "hint: members of the group" in done.stderr


# -- a server that misbehaves ---------------------------------------------------------------------

@pytest.mark.parametrize("raw", [
    b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100000,
])
def test_broken_answers(brume, server, raw):
    def handle(stream, _):
        stream.send(raw)
        return "close"
    server.handle = handle
    assert brume("list", code=1).stderr.count("\n") == 1


def test_kept_connection_was_closed(brume, server):
    """The server may close an idle connection: what can be asked again is."""
    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation("running"))
            return "close"
        if "/wait" in request.path:
            stream.sync(operation())
            return "close"
        return stream.sync(instance())
    server.handle = handle
    brume("launch", "web:1", "web")


# -- Ctrl-C ---------------------------------------------------------------------------------------

def test_interrupt_cancels(program, server):
    cancelled = threading.Event()

    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation("running"))
        elif request.method == "DELETE":
            stream.sync(operation("running"))
            cancelled.set()
        elif cancelled.is_set():
            stream.sync(operation("cancelled"))
        else:
            started.set()
            cancelled.wait(20)
            return "close"
        return None
    started, server.handle = threading.Event(), handle
    process = subprocess.Popen([program, "--socket", server.path, "launch", "web:1", "web"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.wait(20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1] == "brume: launching web: it was cancelled"
    assert ("DELETE", "/1.0/operations/" + "0f" * 16) in server.asked()


def test_second_interrupt_leaves(program, server):
    waits, release = threading.Semaphore(0), threading.Event()

    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation("running"))
        elif request.method == "DELETE":
            stream.sync(operation("running"))
        else:
            waits.release()
            release.wait(20)
            return "close"
        return None
    server.handle = handle
    process = subprocess.Popen([program, "--socket", server.path, "launch", "web:1", "web"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2):
        assert waits.acquire(timeout=20)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    release.set()
    assert process.returncode == 1 and "brume operation info" in err


# -- streams --------------------------------------------------------------------------------------

def test_exec(brume, server):
    def handle(stream, request):
        stream.upgrade(request)
        arguments.append(stream.receive_json())
        arguments.append(stream.receive_json())
        stream.binary(1, b"out\n")
        stream.binary(2, b"err\n")
        stream.text({"exit_code": 42})
        stream.close()
    arguments, server.handle = [], handle
    done = brume("exec", "-e", "A=b", "-u", "me", "web", "--", "ls", "-l", code=42)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert arguments == [{"command": ["ls", "-l"], "env": {"A": "b"}, "user": "me"}, {"eof": True}]
    assert server.asked() == [("GET", "/1.0/instances/web/exec")]


def test_exec_input(brume, server):
    """All of a large input arrives, in order, though the server echoes it at the same time."""
    def handle(stream, request):
        stream.upgrade(request)
        stream.receive_json()
        while (message := stream.receive())[0] == 2:
            stream.binary(1, message[1][1:])
        assert json.loads(message[1]) == {"eof": True}
        stream.text({"exit_code": 0})
    server.handle = handle
    data = os.urandom(3_000_000)
    assert brume("exec", "-i", "web", "cat", input=data, text=False).stdout == data


def test_exec_errors(brume, server):
    def handle(stream, request):
        stream.upgrade(request)
        stream.text({"error": {"code": 2, "message": "no such program"}})
        stream.close()
    server.handle = handle
    assert brume("exec", "web", "x", code=1).stderr == "brume: no such program\n"
    server.handle = lambda s, r: s.error(404, "instance web: there is none", "brume list")
    assert brume("exec", "web", "x", code=1).stderr.endswith("\nhint: `brume list` shows what there is\n")

    def hang_up(stream, request):
        stream.upgrade(request)
        return "close"
    server.handle = hang_up
    assert "closed" in brume("exec", "web", "x", code=1).stderr

    def wrong_key(stream, _):
        stream.send(b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: x\r\n\r\n")
    server.handle = wrong_key
    assert "wrong key" in brume("exec", "web", "x", code=1).stderr


def test_exec_passes_signals_on(program, server):
    def handle(stream, request):
        stream.upgrade(request)
        stream.receive_json()
        stream.receive_json()
        ready.set()
        got.append(stream.receive_json())
        stream.text({"exit_code": 143})
    ready, got, server.handle = threading.Event(), [], handle
    process = subprocess.Popen([program, "--socket", server.path, "exec", "web", "sleep", "9"])
    assert ready.wait(20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert got == [{"signal": "TERM"}]


def test_exec_on_a_terminal(program, server):
    """Raw mode while it runs, the size and its changes, keys as they are, all as before afterwards."""
    def handle(stream, request):
        stream.upgrade(request)
        got.append(stream.receive_json())
        stream.binary(1, b"ready\r\n")
        got.append(stream.receive())
        got.append(stream.receive_json())
        stream.text({"exit_code": 3})
    got, server.handle = [], handle
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen([program, "--socket", server.path, "exec", "-it", "web", "sh"],
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    output = b""
    while b"ready" not in output:
        assert select.select([master], [], [], 20)[0]
        output += os.read(master, 1000)
    os.write(master, b"\x03")  # Ctrl-C is a key like any other
    deadline = time.monotonic() + 20
    while len(got) < 2 and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    assert process.wait(20) == 3
    assert got[0] == {"command": ["sh"], "tty": True, "width": 100, "height": 40}
    assert got[1] == (2, b"\0\x03")
    assert got[2] == {"resize": {"width": 120, "height": 50}}
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


LOGS = "/1.0/instances/web/logs?follow={}&timestamps={}&stdout=1&stderr=1&cursors=1"


def test_logs(brume, server):
    def handle(stream, request):
        line = stream.frame(2, b"\1one\n")
        stream.upgrade(request, line)  # the first line comes with the answer
        stream.binary(2, b"two\n")
        stream.binary(1, b"x" * 70000 + b"\n")
        stream.text({"exit_code": 0})
        stream.close()
    server.handle = handle
    done = brume("logs", "--tail", "7", "web")
    assert done.stdout == "one\n" + "x" * 70000 + "\n" and done.stderr == "two\n"
    assert server.asked() == [("GET", LOGS.format(0, 0) + "&tail=7")]


def test_logs_end_with_interrupt(program, server):
    def handle(stream, request):
        stream.upgrade(request)
        stream.binary(1, b"one\n")
        stream.text({"cursor": "0123abcd-17-0"})
        stream.receive()
    server.handle = handle
    process = subprocess.Popen([program, "--socket", server.path, "logs", "-f", "web"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 0


def test_logs_go_on_after_a_restart(brume, server):
    """What came behind the last cursor was not shown, and comes again."""
    def handle(stream, request):
        stream.upgrade(request)
        if "cursor=" not in request.path:
            stream.binary(1, b"one\n")
            stream.text({"cursor": "0123abcd-17-0"})
            stream.binary(1, b"two\n")
            return "close"
        if "-17-0" in request.path:
            stream.binary(1, b"two\n")
            stream.text({"cursor": "0123abcd-21-0"})
            return stream.text({"error": {"code": 112, "message": "the agent of the node has gone"}})
        stream.text({"dropped": 12})
        stream.binary(2, b"three\n")
        stream.text({"exit_code": 0})
        return stream.close()
    server.handle = handle
    done = brume("logs", "-f", "--since", "2026-11-21", "--until", "2026-11-22", "web")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")
    assert done.stderr.endswith("three\n") and "12 bytes" in done.stderr
    until = "&until_ms=1795305600000"
    assert [path for _, path in server.asked()] == [
        LOGS.format(1, 0) + "&tail=-1&since_ms=1795219200000" + until,
        LOGS.format(1, 0) + "&cursor=0123abcd-17-0" + until, LOGS.format(1, 0) + "&cursor=0123abcd-21-0" + until]


def test_logs_as_json(brume, server):
    def handle(stream, request):
        stream.upgrade(request)
        stream.binary(1, b"2026-11-21T01:30:00.000000001Z on")
        stream.binary(2, b"2026-11-21T01:30:00.000000002Z \xff\n")
        stream.binary(1, b"e\n2026-11-21T01:30:00.000000003Z \n")
        stream.text({"cursor": "0123abcd-17-0"})
        stream.text({"exit_code": 0})
        stream.close()
    server.handle = handle
    done = brume("logs", "--format", "json", "web")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"time": "2026-11-21T01:30:00.000000002Z", "stream": "stderr", "line": "?"},
        {"time": "2026-11-21T01:30:00.000000001Z", "stream": "stdout", "line": "one"},
        {"time": "2026-11-21T01:30:00.000000003Z", "stream": "stdout", "line": ""}]


def test_events_go_on_after_a_restart(program, server):
    def event(revision):
        return {"revision": revision, "kind": "instance", "action": "updated", "project": "default",
                "name": "web", "uid": "ab" * 16, "resource": instance()}

    def handle(stream, request):
        stream.upgrade(request)
        if "cursor" not in request.path:
            stream.text(event(7))
            return "close"
        stream.text(event(8))
        return stream.receive()
    server.handle = handle
    process = subprocess.Popen([program, "--socket", server.path, "events", "-k", "instance"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "7        instance web updated running\n"
    assert process.stdout.readline() == "8        instance web updated running\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert server.asked() == [("GET", "/1.0/events?kind=instance"),
                              ("GET", "/1.0/events?cursor=7&kind=instance")]


# -- images ---------------------------------------------------------------------------------------

def test_import(brume, server, scratch):
    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation("done", action="import", name="layout"))
        else:
            stream.sync({})
    server.handle = handle
    folder = pathlib.Path(scratch) / "layout"
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text("{}")
    blob = os.urandom(2_000_001)
    (folder / "blobs/sha256" / ("a" * 64)).write_bytes(blob)
    (folder / ("n" * 120)).write_text("long")
    assert brume("image", "import", str(folder)).stdout == "layout: imported\n"
    assert server.asked()[0] == ("POST", "/1.0/images?import=1&name=layout")
    with tarfile.open(fileobj=io.BytesIO(server.requests[0].body)) as tar:
        assert tar.getnames() == ["blobs", "blobs/sha256", "blobs/sha256/" + "a" * 64, "n" * 120,
                                  "oci-layout"]
        assert tar.extractfile("blobs/sha256/" + "a" * 64).read() == blob

    brume("image", "import", "-", "piped", input=blob, text=False)
    assert server.requests[-1].body == blob
    (folder / "oci-layout").unlink()
    assert "hint: for a root file system" in brume("image", "import", str(folder), code=1).stderr
    brume("image", "import", "-", code=2)


def test_import_is_refused_early(brume, server):
    """The server answers while the body is still coming, and hangs up."""
    def handle(stream, request):
        assert request is None

    class Early(Stream):
        def read_request(self):
            while self.file.readline() != b"\r\n":
                pass
            self.error(413, "too large", "make it smaller")
            self.connection.shutdown(socket.SHUT_WR)
            while self.file.read(65536):
                pass
            return None
    server.handle = handle
    globals()["Stream"], original = Early, Stream
    try:
        done = brume("image", "import", "-", "x", code=1, input="y" * 30_000_000)
    finally:
        globals()["Stream"] = original
    assert done.stderr == "brume: too large\nhint: make it smaller\n"


def test_export(brume, server, scratch):
    data = os.urandom(1_000_000)

    def handle(stream, _):
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(data) + data)
    server.handle = handle
    target = pathlib.Path(scratch) / "image.tar"
    brume("image", "export", "web", str(target))
    assert target.read_bytes() == data
    assert brume("image", "export", "web", text=False).stdout == data
    target.unlink()

    def cut(stream, _):
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n"
                    b"Content-Length: 5\r\n\r\n1234")
        return "close"
    server.handle = cut
    brume("image", "export", "web", str(target), code=1)
    assert list(pathlib.Path(scratch).glob("image.tar*")) == []
    server.handle = lambda s, r: s.error(404, "image web: there is none")
    brume("image", "export", "web", str(target), code=1)
    assert list(pathlib.Path(scratch).glob("image.tar*")) == []


def test_prune(brume, server):
    result = {"images": ["a:1", "b:2"], "size_bytes": 5 << 20}
    server.handle = lambda s, r: s.async_(operation(action="prune", result=result))
    done = brume("image", "prune")
    assert done.stdout == "a:1\nb:2\n" and done.stderr == "2 images deleted, 5.0 MiB\n"
    server.handle = lambda s, r: s.async_(operation(action="prune", result={"images": []}))
    assert brume("image", "prune").stdout == ""


def test_password_comes_from_the_input(brume, server):
    def handle(stream, request):
        if request.method == "POST":
            stream.async_(operation(action="pull", name="reg.test/a:1"))
        else:
            stream.sync({"meta": {"name": "reg.test/a:1"}, "status": {"size_bytes": 5 << 20,
                                                                      "digest": "sha256:ab"}})
    server.handle = handle
    done = brume("image", "pull", "--username", "me", "--password-stdin", "--insecure", "reg.test/a:1",
                 input="secret\n")
    assert json.loads(server.requests[0].body) == {
        "reference": "reg.test/a:1", "username": "me", "password": "secret", "insecure": True}
    assert done.stdout == "reg.test/a:1: pulled  5.0 MiB  sha256:ab\n"
    assert done.stderr == "pulling reg.test/a:1\n"


# -- TLS ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem"], check=True, capture_output=True)
    return folder


def test_tls(program, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = Server(None, context)
    server.handle = lambda s, r: s.sync([instance()])
    port = server.listener.getsockname()[1]

    def run(host, *args, **env):
        return subprocess.run([program, "--host", host, *args], capture_output=True, text=True,
                              check=False, timeout=30, env={**os.environ, **env})
    trusted = {"BRUME_TOKEN": "secret", "BRUME_CACERT": str(certificate / "cert.pem")}
    done = run(f"https://127.0.0.1:{port}", "list", "-q", **trusted)
    assert done.stdout == "web\n", done
    assert server.requests[0].headers["authorization"] == "Bearer secret"

    done = run(f"https://127.0.0.1:{port}", "list")
    assert done.returncode == 1 and "not trusted" in done.stderr
    done = run(f"https://localhost:{port}", "list", **trusted)
    assert done.returncode == 1 and "not trusted" in done.stderr
    assert len(server.requests) == 1

    def handle(stream, request):
        stream.upgrade(request)
        stream.receive_json()
        while (message := stream.receive())[0] == 2:
            stream.binary(1, message[1][1:])
        stream.text({"exit_code": 0})
    server.handle = handle
    data = "x" * 1_000_000
    done = subprocess.run([program, "--host", f"https://127.0.0.1:{port}", "exec", "-i", "web", "cat"],
                          input=data, capture_output=True, text=True, check=False, timeout=30,
                          env={**os.environ, **trusted})
    assert (done.returncode, len(done.stdout)) == (0, len(data)), done.stderr
    server.listener.close()


# -- completion -----------------------------------------------------------------------------------

@pytest.mark.parametrize("words, expected", [
    (["la"], ["launch"]),
    (["image", "p"], ["pull", "prune"]),
    (["stop", "w"], ["web"]),
    (["stop", "web", ""], ["web", "db"]),
    (["list", "--fo"], ["--format"]),
    (["list", "-f", "j"], ["json"]),
    (["launch", "--pull", "a"], ["always"]),
    (["exec", "web", "ls", "x"], ["@files"]),
    (["info", "web", ""], []),
    (["network", "attach", "back", "d"], ["db"]),
    (["network", "create", "--driver", "m"], ["macvlan"]),
    (["network", "create", "--mode", "v"], ["vepa"]),
    (["network", "attach", "back", "db", ""], []),
    (["nonsense", "x", ""], []),
])
def test_completion(brume, server, words, expected):
    server.handle = lambda s, r: s.sync([instance(), instance("db")])
    assert brume("__complete", "--", *words).stdout.split() == expected


def test_tls_is_loaded_only_when_it_is_used(build):
    """It takes as long as all the rest of a short command's start (client/tls_library.h)."""
    loaded = subprocess.run([build / "brume"], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True).stdout
    assert "libc.so" in loaded and "tls" not in loaded
