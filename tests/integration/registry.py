"""Registries for the tests: Debian's docker-registry, and one that misbehaves on request."""
import base64
import http.server
import json
import pathlib
import signal
import socket
import subprocess
import threading
import urllib.parse

from image_builder import Registry as Client
from image_builder import sha256
from kernel import inside_network_of, wait_for_exit

CONFIG = """version: 0.1
log: {{level: info, formatter: text}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """Debian's docker-registry on the loopback of a node's network namespace."""

    def __init__(self, node, folder, port=5000):
        self.node, self.address = node, f"127.0.0.1:{port}"
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.yml"
        config.write_text(CONFIG.format(root=folder / "data", port=port))
        self.process = node.popen(["docker-registry", "serve", str(config)],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in self.process.stdout:
            if b"listening on" in line:
                break
        else:
            raise RuntimeError("docker-registry ended before it listened")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def push(self, image, name):
        """name: NAME:TAG.  Gives the reference under which brume can pull it."""
        reference = f"{self.address}/{name}"
        with inside_network_of(self.node.pid):
            image.push(reference)
        return reference

    def push_index(self, images, name):
        from images import manifest_list
        repository, _, tag = name.rpartition(":")
        with inside_network_of(self.node.pid):
            for image in images:
                image.push(f"{self.address}/{repository}:{image.architecture}")
            Client(self.address).put_manifest(repository, tag, *manifest_list(images))
        return f"{self.address}/{name}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if not wait_for_exit(self.process.pid, 10):
            self.process.kill()
        self.process.wait()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


class FaultyRegistry:
    """A registry in this process with faults.

    faults: {digest: fault}; a fault is one of
      "missing"        404
      "corrupt"        other bytes of the same length
      "truncate"       Content-Length and body both shorter than the descriptor says
      ("drop", N)      the connection breaks after N bytes, every time, whatever range was asked for
      ("drop-once", N) only the first time
      ("hang", event)  sends the first 1000 bytes, then waits for event
    auth: None, "basic" or "token"; user name and password are "user" and "secret".
    """

    def __init__(self, node, port=5001, auth=None):
        self.address, self.auth, self.faults, self.requests = f"127.0.0.1:{port}", auth, {}, []
        self.manifests, self.blobs, self.dropped = {}, {}, set()
        with inside_network_of(node.pid):
            self.server = _Server(("127.0.0.1", port), self._handler(), bind_and_activate=False)
            self.server.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.server.allow_reuse_address = True
            self.server.server_bind()
            self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, image, name):
        repository, _, tag = name.rpartition(":")
        for key in (tag, image.digest):
            self.manifests[repository, key] = (image.manifest, image.media["manifest"])
        self.blobs.update(image.blobs)
        return f"{self.address}/{name}"

    def add_raw_manifest(self, name, data, media_type):
        repository, _, tag = name.rpartition(":")
        for key in (tag, sha256(data)):
            self.manifests[repository, key] = (data, media_type)
        return f"{self.address}/{name}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def _handler(registry):  # noqa: N805 - self is the handler's
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", headers=(), head=False):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not head:
                    self.wfile.write(body)

            def allowed(self):
                given = self.headers.get("Authorization", "")
                if registry.auth == "basic":
                    good = "Basic " + base64.b64encode(b"user:secret").decode()
                    challenge = 'Basic realm="test"'
                elif registry.auth == "token":
                    good = "Bearer t0ken"
                    challenge = (f'Bearer realm="http://{registry.address}/token",'
                                 'service="test",scope="repository:any:pull"')
                else:
                    return True
                if given == good:
                    return True
                self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}',
                            [("WWW-Authenticate", challenge)])
                return False

            def do_HEAD(self):
                self.do_GET(head=True)

            def do_GET(self, head=False):
                url = urllib.parse.urlsplit(self.path)
                registry.requests.append((self.command, url.path, self.headers.get("Range")))
                if url.path == "/token":
                    good = "Basic " + base64.b64encode(b"user:secret").decode()
                    if self.headers.get("Authorization") != good:
                        return self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
                    return self.answer(200, json.dumps({"token": "t0ken"}).encode())
                if not self.allowed():
                    return None
                parts = url.path.split("/")
                if url.path in ("/v2/", "/v2"):
                    return self.answer(200, b"{}")
                if len(parts) >= 5 and parts[-2] == "manifests":
                    found = registry.manifests.get(("/".join(parts[2:-2]), parts[-1]))
                    if not found:
                        return self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN",'
                                                b'"message":"manifest unknown"}]}', head=head)
                    data, media_type = found
                    if registry.faults.get(sha256(data)) == "corrupt":
                        data = data.replace(b'"', b' "', 1)
                    return self.answer(200, data, [("Content-Type", media_type),
                                                   ("Docker-Content-Digest", sha256(found[0]))],
                                       head=head)
                if len(parts) >= 5 and parts[-2] == "blobs":
                    return self.blob(parts[-1], head)
                return self.answer(404, b'{"errors":[{"code":"NOT_FOUND"}]}', head=head)

            def blob(self, digest, head):
                data, fault = registry.blobs.get(digest), registry.faults.get(digest)
                if data is None or fault == "missing":
                    return self.answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN",'
                                            b'"message":"blob unknown"}]}', head=head)
                if fault == "corrupt":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if fault == "truncate":
                    data = data[:len(data) // 2]
                start, status, headers = 0, 200, []
                asked = self.headers.get("Range")
                if asked and asked.startswith("bytes="):
                    start = int(asked[6:].split("-")[0])
                    status = 206
                    headers = [("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")]
                if isinstance(fault, tuple) and not head:
                    kind, argument = fault
                    if kind == "drop" or (kind == "drop-once" and digest not in registry.dropped):
                        registry.dropped.add(digest)
                        return self.partly(status, headers, data[start:], argument)
                    if kind == "hang":
                        return self.partly(status, headers, data[start:], 1000, argument)
                return self.answer(status, data[start:], headers, head=head)

            def partly(self, status, headers, body, count, event=None):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:count])
                self.wfile.flush()
                if event:
                    event.wait(60)
                    self.wfile.write(body[count:])
                else:
                    self.close_connection = True

        return Handler
