"""The API: TLS and token, hostile requests, conditional changes, who may use the socket."""
import http.client
import json
import socket
import ssl
import subprocess

import node as node_module
import pytest
from conftest import make_node
from node import eventually


@pytest.fixture(scope="module")
def tls(build, tmp_path_factory):
    """A node that also listens on TCP with TLS and a token; gives (node, context)."""
    import pathlib
    import shutil
    import tempfile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    key, certificate, token = folder / "key.pem", folder / "cert.pem", folder / "token"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out",
                    str(certificate), "-days", "2", "-subj", "/CN=brume.test", "-addext",
                    f"subjectAltName=IP:{node_module.NODE4},DNS:brume.test"], check=True,
                   stderr=subprocess.DEVNULL)
    token.write_text("tester correct-horse-battery-staple\n")
    token.chmod(0o600)
    it = make_node(build, folder / "node", args=[
        "--listen", f"{node_module.NODE4}:8443", "--tls-cert", certificate, "--tls-key", key,
        "--token-file", token])
    it.certificate, it.token = certificate, token
    try:
        it.start()
        yield it
    finally:
        it.close()
        shutil.rmtree(folder, ignore_errors=True)


def over_tls(node, path, token=None):
    context = ssl.create_default_context(cafile=str(node.certificate))
    connection = http.client.HTTPSConnection(node_module.NODE4, 8443, timeout=10, context=context)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_tls_needs_the_token(tls):
    status, answer = over_tls(tls, "/1.0/instances")
    assert status in (401, 403) and answer["type"] == "error"
    status, _ = over_tls(tls, "/1.0/instances", "wrong")
    assert status in (401, 403)
    status, answer = over_tls(tls, "/1.0/instances", "correct-horse-battery-staple")
    assert (status, answer["metadata"]) == (200, [])


def test_plain_http_gets_nothing(tls):
    with socket.create_connection((node_module.NODE4, 8443), timeout=5) as link:
        link.sendall(b"GET /1.0 HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = link.recv(1000)
        except ConnectionResetError:
            answer = b""
        assert b"HTTP" not in answer
    assert tls.api("GET", "/1.0")


def test_etag_and_if_match(clean):
    clean.api("GET", "/1.0")
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(clean.socket)
    connection.request("GET", "/1.0/networks/default")
    answer = connection.getresponse()
    answer.read()
    tag = answer.getheader("ETag")
    assert tag
    connection.request("DELETE", "/1.0/networks/default", headers={"If-Match": '"1999999999"'})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 412, body
    connection.close()


HOSTILE = [
    b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"A" * 100_000,
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /1.0 HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET /1.0/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /1.0/instances/%00%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /1.0/instances/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
    b"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /1.0/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
    b"GET /1.0/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
    b"GET /1.0/events?cursor=-5 HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_requests(clean, number):
    pid = clean.pid_of("brumed")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(clean.socket)
        try:
            link.sendall(HOSTILE[number])
            link.shutdown(socket.SHUT_WR)
            link.recv(1000)
        except OSError:
            pass
    assert clean.api("GET", "/1.0")
    assert clean.pid_of("brumed") == pid


BODIES = [b"", b"{", b"[]", b"null", b"7", b'{"name":7}', b'{"image":"x","unknown":1}',
          b'{"image":{"a":1}}', b'{"image":"x","env":[1]}', b'{"image":"x","env":{"A":1}}',
          b'{"image":"x","publish":[{"port":1e99}]}', b'{"image":"x","limits":{"cpus":-1}}',
          b'{"image":"x","command":[["a"]]}', b'{"image":"x","name":"a\\u0000b"}',
          b"[" * 50_000, b'{"a":' * 50_000, b'{"image":"' + b"x" * 2_000_000 + b'"}',
          b'{"image":"x","labels":{"' + b"k" * 70_000 + b'":"v"}}', b"\xff\xfe{}"]


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_hostile_bodies(clean, number):
    status, answer = clean.api("POST", "/1.0/instances", BODIES[number], raw=True)
    assert status in (400, 413, 422), answer
    assert answer["type"] == "error" and answer["error"] and "\n" not in answer["error"]
    assert len(answer["error"]) < 500
    assert clean.api("GET", "/1.0/instances") == []


@pytest.mark.parametrize("path", ["/", "/2.0", "/1.0/nothing", "/1.0/instances/none",
                                  "/1.0/operations/none",
                                  "/1.0/images/example.test%2Fnone"])
def test_unknown_paths(clean, path):
    status, answer = clean.api("GET", path, raw=True)
    if path != "/":
        assert status == 404 and answer["type"] == "error", answer


def test_wrong_methods(clean):
    status, answer = clean.api("DELETE", "/1.0/instances", raw=True)
    assert status in (404, 405) and answer["type"] == "error"


def test_unknown_websocket_messages_do_not_hurt(busybox):
    node, reference = busybox
    node.launch(reference, "poked")
    for first in ("", "{", "[]", '{"command":"x"}', '{"command":[]}', "x" * 200_000):
        stream = node.websocket("/1.0/instances/poked/exec", timeout=5)
        try:
            stream.send(first)
            stream.recv()
        except Exception:  # noqa: BLE001 - closing is a fine answer
            pass
        stream.close()
    node.cli("exec", "poked", "--", "true")


def test_many_idle_connections_do_not_stop_others(clean):
    idle = []
    try:
        for _ in range(200):
            link = socket.socket(socket.AF_UNIX)
            link.connect(clean.socket)
            link.sendall(b"GET /1.0 HTTP/1.1\r\n")
            idle.append(link)
        eventually(lambda: clean.api("GET", "/1.0"), 10, "an answer")
    finally:
        for link in idle:
            link.close()


def test_brumed_has_no_power(clean):
    pid = clean.pid_of("brumed")
    values = dict(line.split(":\t", 1) for line in
                  open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    assert "0" not in values["Uid"].split()
    assert int(values["CapEff"], 16) == 0 and int(values["CapPrm"], 16) == 0
    assert values["Groups"].split() in ([], ["0"]) or "0" not in values["Groups"].split()
