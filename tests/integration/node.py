"""A whole brume node in a network and mount namespace of its own, for one test or one file.

The node's folders lie in a temporary folder; its kernel objects carry a prefix of their own.  Its
network namespace has a link `uplink` to the namespace of the test, which plays the outside world:

    the test          192.0.2.1/24, 2001:db8:1::1/64
    the node          192.0.2.2/24, 2001:db8:1::2/64, default routes to the test

close() takes everything away and fails the test when something of the node was left behind.
"""
import collections
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import pty
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

import kernel

OUTSIDE4, NODE4, OUTSIDE6, NODE6 = "192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:1::2"
CGROUPS = pathlib.Path("/sys/fs/cgroup")
DAEMONS = ("supervisor", "brumed", "agentd", "keeper")
PROGRAMS = {"supervisor": "brumed", "brumed": "brumed", "agentd": "brume-agentd", "keeper": "brume-keeper"}
_numbers, _session = itertools.count(), secrets.token_hex(2)


class Failure(AssertionError):
    """A command ended in another way than the test expected."""


def eventually(check, timeout=20.0, what="the condition"):
    """For conditions that offer no event to wait for (another network stack's state, /proc)."""
    deadline = time.monotonic() + kernel.patient(timeout)
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not come true within {timeout} s")
        select.select([], [], [], 0.02)


def user_of_control():
    """The user that brumed drops to."""
    try:
        return pwd.getpwnam("brume").pw_name
    except KeyError:
        return "nobody"


class Node:
    def __init__(self, build, folder, supervised=True, args=(), run_folder=None):
        self.build, self.folder = pathlib.Path(build).resolve(), pathlib.Path(folder)
        # Not the process id: sessions in process namespaces of their own share the cgroups.
        self.prefix = f"t{_session}x{next(_numbers) % 256:x}"
        self.state, self.run_folder = self.folder / "state", run_folder or self.folder / "run"
        self.supervised, self.args = supervised, list(args)
        self.processes, self.helpers, self.registries = {}, [], []
        for folder in (self.folder, self.state, self.run_folder):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
        self.socket = str(self.run_folder / "brumed.sock")
        self.revision_at_kill = 0  # of the node's resource, when the agent was killed last
        self._open_namespace()
        self.untouched = self.census()

    # -- the node's namespaces -------------------------------------------------------------------

    def _open_namespace(self):
        self.holder = subprocess.Popen(
            ["unshare", "-nm", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise RuntimeError("cannot make namespaces; integration tests need root")
        self.pid = self.holder.pid
        self.uplink = f"o{self.prefix}"
        for command in (
                f"ip link add {self.uplink} type veth peer name uplink netns {self.pid}",
                f"ip addr add {OUTSIDE4}/24 dev {self.uplink}",
                f"ip addr add {OUTSIDE6}/64 dev {self.uplink} nodad",
                f"ip link set {self.uplink} up"):
            subprocess.run(command.split(), check=True)
        for command in (f"ip addr add {NODE4}/24 dev uplink",
                        f"ip addr add {NODE6}/64 dev uplink nodad",
                        "ip link set uplink up", f"ip route add default via {OUTSIDE4}",
                        f"ip -6 route add default via {OUTSIDE6} dev uplink"):
            self.run(command.split())

    def inside(self):
        """A context in which sockets of this thread belong to the node's network namespace."""
        return kernel.inside_network_of(self.pid)

    def command(self, args):
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *map(str, args)]

    def run(self, args, check=True, timeout=60, **more):
        """Runs a program of the machine inside the node; gives its output."""
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        done = subprocess.run(self.command(args), timeout=kernel.patient(timeout), **more)
        if check and done.returncode:
            raise Failure(f"{' '.join(map(str, args))}: exit code {done.returncode}\n"
                          f"{done.stdout}{done.stderr}")
        return done

    def popen(self, args, **more):
        process = subprocess.Popen(self.command(args), start_new_session=True, **more)
        self.helpers.append(process)
        return process

    # -- the daemons -----------------------------------------------------------------------------

    def daemon_args(self, name):
        args = ["--run", self.run_folder]
        if name != "keeper":
            args += ["--state", self.state, "--prefix", self.prefix]
        if name in ("brumed", "supervisor"):
            args += ["--user", user_of_control(), *self.args]
        if name == "supervisor":
            args += ["--supervise"]
        return [self.build / PROGRAMS[name], *args]

    def start(self):
        """Starts what does not run and waits until the node serves requests."""
        self.start_missing()
        self.wait_ready()
        return self

    def spawn(self, name):
        log = open(self.folder / f"{name}.log", "ab")
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        self.processes[name] = subprocess.Popen(
            self.command(self.daemon_args(name)), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        log.close()

    def wait_ready(self, timeout=30.0):
        """The API answers and the node has reported itself online."""
        if not kernel.wait_for_path(self.socket, timeout=timeout, alive=self._brumed_lives):
            raise Failure("brumed does not listen:\n" + self.log())

        def online():
            if not self._brumed_lives():
                raise Failure("brumed ended:\n" + self.log())
            try:
                node = self._own_resource()
            except (OSError, http.client.HTTPException):
                return False
            # brumed may still take the agent that was just killed for alive.
            return (node is not None and node["status"].get("state") == "online" and
                    node["meta"]["revision"] > self.revision_at_kill)
        eventually(online, timeout, "a node that is online")

    def _own_resource(self):
        """The node as the API shows it, or None while it has never said hello."""
        nodes = self.api("GET", "/1.0/nodes?recursion=1")
        return nodes[0] if nodes else None

    def _brumed_lives(self):
        leader = self.processes.get("supervisor" if self.supervised else "brumed")
        return leader is None or leader.poll() is None

    def pid_of(self, name):
        """The process id of a daemon, from its lock file, or None."""
        try:
            pid = int((self.run_folder / f"{name}.lock").read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return pid if pathlib.Path(f"/proc/{pid}").exists() else None

    def kill(self, name, how=signal.SIGKILL):
        """Ends a daemon and waits until it is gone.  True when there was one."""
        pid = self.pid_of(name)
        if not pid:
            return False
        if name == "agentd":
            with contextlib.suppress(OSError, http.client.HTTPException, Failure):
                node = self._own_resource()
                self.revision_at_kill = node["meta"]["revision"] if node else 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        if not kernel.wait_for_exit(pid):
            raise Failure(f"{name} does not end after signal {how}")
        process = self.processes.get(name)
        if process and process.pid == pid:
            process.wait()
        return True

    def start_missing(self):
        """Starts what does not run; what the supervisor looks after is its business."""
        for name in ("supervisor",) if self.supervised else ("keeper", "brumed", "agentd"):
            process = self.processes.get(name)
            if not self.pid_of(name) and (process is None or process.poll() is not None):
                self.spawn(name)

    def stop_supervision(self):
        """From now on a daemon is started by start_missing() only."""
        self.kill("supervisor", signal.SIGTERM)
        for name in ("brumed", "agentd"):
            self.kill(name, signal.SIGTERM)
        self.supervised = False
        self.start_missing()
        self.wait_ready()

    def pretend_reboot(self):
        """Ends every process of the node and empties its run folder, as a reboot would."""
        self._end_processes()
        for path in self.run_folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for link in self.links():
            if link.startswith(self.prefix):
                self.run(["ip", "link", "del", link], check=False)
        for family in ("inet", "bridge"):
            self.run(["nft", "delete", "table", family, self.prefix], check=False)
        self.run(["nft", "delete", "table", "inet", self.prefix + "-b"], check=False)
        self._remove_cgroups()

    def log(self, lines=60):
        text = ""
        for path in sorted(self.folder.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            text += f"--- {path.name}\n" + "\n".join(tail) + "\n"
        return text

    # -- talking to it ---------------------------------------------------------------------------

    def environment(self, **more):
        return {**os.environ, "BRUME_HOST": "unix://" + self.socket, "LC_ALL": "C.UTF-8", **more}

    def cli(self, *args, code=0, timeout=40, **more):
        """Runs `brume ARGS` and gives the finished process; code None allows every exit code."""
        done = self.run([self.build / "brume", *args], check=False, timeout=timeout,
                        env=self.environment(), stdin=more.pop("stdin", subprocess.DEVNULL)
                        if "input" not in more else None, **more)
        if code is not None and done.returncode != code:
            raise Failure(f"brume {' '.join(map(str, args))}: exit code {done.returncode}, not "
                          f"{code}\n{done.stdout}{done.stderr}\n{self.log(25)}")
        return done

    def launch(self, reference, name, *options, command=(), **more):
        """`brume launch`, waiting until it runs."""
        return self.cli("launch", *options, reference, name, *(["--", *command] if command else []),
                        **more)

    def refused(self, *args):
        """The launch fails, and leaves nothing; what it said."""
        done = self.cli("launch", *args, code=1)
        assert self.api("GET", "/1.0/instances") == []
        return done.stderr

    def sh(self, name, script, code=0):
        """What a script prints in an instance."""
        return self.cli("exec", name, "--", "sh", "-c", script, code=code).stdout

    def write_policy(self, **members):
        path = self.state / "policy.json"
        path.write_text(json.dumps(members))
        path.chmod(0o644)

    def out(self, *args, **more):
        return self.cli(*args, **more).stdout

    def json(self, *args):
        return json.loads(self.out(*args, "-f", "json"))

    def api(self, method, path, body=None, raw=False, timeout=60):
        """One request to brumed.  Gives the metadata, or (status, answer) when raw."""
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(kernel.patient(timeout))
        try:
            connection.sock.connect(self.socket)
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not \
                None else None
            # A body that is too large is answered before it was sent.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, path, data, {"Content-Type": "application/json"} if data
                                   else {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        value = json.loads(text) if text else None
        if raw:
            return answer.status, value
        if answer.status >= 400:
            raise Failure(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return value["metadata"]

    def wait_operation(self, operation, timeout=60):
        """Waits for the end of an operation (its id, or what an async answer carries)."""
        name = operation if isinstance(operation, str) else operation["meta"]["name"]
        name = name.rsplit("/", 1)[-1]
        deadline = time.monotonic() + kernel.patient(timeout)
        while True:
            found = self.api("GET", f"/1.0/operations/{name}/wait?timeout_s=30")
            if found["status"]["state"] != "running":
                return found
            if time.monotonic() > deadline:
                raise Failure(f"operation {name} does not end: {found}\n{self.log()}")

    def websocket(self, path, timeout=30):
        import websocket
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(kernel.patient(timeout))
        link.connect(self.socket)
        return websocket.create_connection("ws://localhost" + path, socket=link,
                                           timeout=kernel.patient(timeout))

    def instance(self, name):
        return self.api("GET", "/1.0/instances/" + name)

    def wait_state(self, name, wanted, timeout=30):
        """Waits, on the event stream, until an instance is in one of the wanted states."""
        wanted = {wanted} if isinstance(wanted, str) else set(wanted)
        return self.wait_instance(name, lambda it: it["status"].get("state") in wanted, timeout)

    def wait_instance(self, name, check, timeout=30):
        """Waits, on the event stream, until check(instance) is true; gives the instance."""
        deadline, it = time.monotonic() + kernel.patient(timeout), None
        stream = self.websocket("/1.0/events", timeout=timeout)
        try:
            it = self.instance(name)
            while not check(it):
                stream.settimeout(max(0.01, deadline - time.monotonic()))
                event = json.loads(stream.recv())
                if event["kind"] == "node":  # its instances are "unknown" while it is offline
                    it = self.instance(name)
                if event["kind"] != "instance" or name not in (event["name"], event.get("old_name")):
                    continue
                if event["action"] == "deleted":
                    raise Failure(f"{name} was deleted while somebody waited for it")
                it = event["resource"]
            return it
        except TimeoutError as error:
            raise Failure(f"{name} stays {it}") from error
        except Exception as error:
            if type(error).__name__ == "WebSocketTimeoutException":
                raise Failure(f"{name} stays {it}\n{self.log()}") from error
            raise
        finally:
            stream.close()

    def terminal(self, *args, width=80, height=24):
        return Terminal(self, args, width, height)

    # -- what is left ----------------------------------------------------------------------------

    def links(self):
        done = self.run(["ip", "-j", "link"])
        return {link["ifname"] for link in json.loads(done.stdout)}

    def nft(self):
        """Everything in the node's firewall, as text lines without counters."""
        return self.run(["nft", "-s", "list", "ruleset"]).stdout

    def elements(self):
        """The elements of all sets and maps of the node's own tables."""
        found = set()
        listing = json.loads(self.run(["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
        for item in listing:
            for kind in ("set", "map"):
                if item.get(kind, {}).get("table", "").startswith(self.prefix):
                    for element in item[kind].get("elem", []):
                        found.add(f"{item[kind]['name']}: {json.dumps(element)}")
        return found

    def census(self):
        """What exists in the kernel and on disk with the name of this node."""
        mine = collections.defaultdict(set)
        mine["link"] = {name for name in self.links() if name.startswith(self.prefix)}
        mine["nft"] = self.elements()
        for pid in {self.pid, *filter(None, map(self.pid_of, DAEMONS))}:
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                    if self.named_in(line) or f"/{self.prefix}/" in line:
                        mine["mount"].add(line.split()[4])
        for path in itertools.chain(CGROUPS.glob(f"{self.prefix}/*"),
                                    CGROUPS.glob(f"*/{self.prefix}/*")):
            if path.is_dir():
                mine["cgroup"].add(str(path.relative_to(CGROUPS)))
        for place, pattern in ((self.run_folder, "instances/*"), (self.run_folder, "oci/*"),
                               (self.run_folder, "fifo/*"), (self.run_folder, "keeper/*"),
                               (self.run_folder, "networks/*/hosts/*"), (self.run_folder, "networks/*/dhcp/*"),
                               (self.run_folder, "networks/projects/*/*"),
                               (self.state, "instances/*"), (self.state, "networks/*"), (self.state, "images/jobs/*")):
            mine["file"] |= {str(p.relative_to(self.folder)) for p in place.glob(pattern)
                             if not p.name.startswith(".")}
        mine["process"] = self.strangers()
        return {kind: found for kind, found in mine.items() if found}

    def named_in(self, text):
        """Whether one of the node's folders is mentioned."""
        return str(self.folder) in text or str(self.run_folder) in text

    def strangers(self):
        """Processes of this node that are neither daemons nor dnsmasq, nor programs of the test."""
        daemons = {self.pid_of(name) for name in DAEMONS} | {p.pid for p in self.processes.values()}
        daemons |= {p.pid for p in self.helpers} | {self.pid, os.getpid()}
        found = set()
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in daemons:
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                groups = (entry / "cgroup").read_text()
                program = words[0].rsplit("/", 1)[-1]
                if f"/{self.prefix}/" in groups or (self.named_in(" ".join(words)) and
                                                    program not in ("dnsmasq", "nsenter")):
                    found.add(f"{entry.name} {' '.join(words).strip()}")
        return found

    def leftovers(self):
        """What the census has beyond the untouched node; waits for what the kernel does later."""
        # A network lives on: its bridge, its name server, its rules.
        networks = [n["meta"]["uid"] for n in self._networks()]

        def of_network(name):
            return any(uid in name or f"{self.prefix}-{uid}".startswith(name) for uid in networks)

        def extra():
            found = {}
            for kind, names in self.census().items():
                names = names - self.untouched.get(kind, set())
                names = {name for name in names if not of_network(name)}
                if names:
                    found[kind] = sorted(names)
            return found
        deadline = time.monotonic() + kernel.patient(5)
        # What is looked at again may have something else on its way: a name server that is begun anew.
        while (found := extra()) and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
        return found

    def _networks(self):
        try:
            return self.api("GET", "/1.0/networks?recursion=1")
        except (OSError, Failure, http.client.HTTPException):
            return []

    def delete_all(self):
        """Deletes every instance; fails when an operation does."""
        pending = []
        for it in self.api("GET", "/1.0/instances?recursion=1"):
            name = urllib.parse.quote(it["meta"]["name"], safe="")
            status, answer = self.api("DELETE", f"/1.0/instances/{name}?force=1", raw=True)
            if status == 202:
                pending.append(answer["metadata"])
            elif status != 404:
                raise Failure(f"delete {name}: {answer}")
        for operation in pending:
            done = self.wait_operation(operation)
            if done["status"]["state"] != "done":
                raise Failure(f"delete failed: {done}\n{self.log()}")

    def check_clean(self):
        """Deletes all instances and fails when something of them is left."""
        self.delete_all()
        left = self.leftovers()
        if left:
            raise Failure(f"left behind: {json.dumps(left, indent=1)}\n{self.log()}")

    def close(self, check=True):
        """Takes the node away; what a clean deletion leaves behind is a failure."""
        problem = None
        try:
            if check and self.pid_of("brumed") and self.pid_of("agentd"):
                self.check_clean()
        except Exception as error:  # noqa: BLE001 - the node must go away whatever was wrong
            problem = error
        for registry in self.registries:
            registry.stop()
        for name in DAEMONS:
            with contextlib.suppress(Failure):
                self.kill(name, signal.SIGTERM)
        for name in DAEMONS:
            self.kill(name)
        self._sweep()
        if problem is None and check and self.strangers():
            problem = Failure(f"processes outlive their node: {self.strangers()}")
        shutil.rmtree(self.folder, ignore_errors=True)
        if problem:
            raise problem

    def _end_processes(self):
        spared = {os.getpid(), self.pid, *(registry.process.pid for registry in self.registries)}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in spared:
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().decode(errors="replace")
                    if f"/{self.prefix}/" in (entry / "cgroup").read_text() or \
                            self.named_in(words):
                        os.kill(int(entry.name), signal.SIGKILL)
                        kernel.wait_for_exit(int(entry.name), 5)

    def _remove_cgroups(self):
        for folder in (*CGROUPS.glob(self.prefix), *CGROUPS.glob(f"*/{self.prefix}")):
            for path in sorted(folder.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _sweep(self):
        """Removes by force what a broken node may have left, so that one failure stays one."""
        for process in [*self.helpers, *self.processes.values()]:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        self._end_processes()
        self._remove_cgroups()
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()
        subprocess.run(["ip", "link", "del", self.uplink], stderr=subprocess.DEVNULL)


class Terminal:
    """`brume ARGS` on a pseudo terminal, as a person would use it."""

    def __init__(self, node, args, width, height):
        self.master, slave = pty.openpty()
        kernel.set_window_size(self.master, width, height)
        self.process = subprocess.Popen(
            node.command([node.build / "brume", *args]), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env=node.environment(TERM="xterm"),
            preexec_fn=_take_controlling_terminal)
        os.close(slave)
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, width, height):
        kernel.set_window_size(self.master, width, height)

    def expect(self, text, timeout=20):
        """Reads until text comes; gives everything before it."""
        deadline = time.monotonic() + kernel.patient(timeout)
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise Failure(f"no {text!r} on the terminal, only {self.seen!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            if not data:
                raise Failure(f"the terminal ended without {text!r}: {self.seen!r}")
            self.seen += data.decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def finish(self, timeout=20):
        """Reads to the end and gives the exit code."""
        deadline = time.monotonic() + kernel.patient(timeout)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                self.process.kill()
                raise Failure(f"the program does not end: {self.seen!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode(errors="replace")
        code = self.process.wait(kernel.patient(timeout))
        os.close(self.master)
        return code


def _take_controlling_terminal():
    import fcntl
    import termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
