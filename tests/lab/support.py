"""What the lab tests stand on: sockets inside the lab's namespaces, scripted origins, the access log, the metrics.

Linux's TCP is on both sides: sockets are made inside a namespace (setns around socket()) and live on in this process, so that a test
holds both ends. Load comes from wrk and nginx, large bodies from curl."""
import ctypes
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from foilrun import lab, ui

NAME_SERVER = "127.0.0.1:15053"  # where the shared lab's agent asks for names: test_names.py answers
GATEWAY, GATEWAY6 = "198.18.0.1", "fd00:f011:0::1"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class Skip(Exception):
    """The test cannot run here; the text says why."""


def rows(ids):
    """@rows("DR-46 DR-48"): what of docs/istio-rows.md a test shows; tools/check_rows.py reads it."""
    return lambda test: (check(ids, "no row"), test)[1]


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_for(what, limit_s, text, every_s=0.05):
    """what() until it is true; its value. The text of the failure may be a function."""
    deadline = time.monotonic() + limit_s
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(text() if callable(text) else text)
        time.sleep(every_s)


# ---- configuration that most labs begin with

HTTP_80 = '{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}'


def gateway(*servers, name="main"):
    """The Gateway istio-system/NAME for these servers; without any: every host over HTTP at port 80."""
    lines = "".join(f"  - {server}\n" for server in servers or (HTTP_80,))
    return ("---\napiVersion: networking.istio.io/v1\nkind: Gateway\n" f"metadata: {{name: {name}, namespace: istio-system}}\n"
            "spec:\n  selector: {istio: ingressgateway}\n  servers:\n" + lines)


def mesh_config(*lines):
    """MeshConfig with an access log and these lines."""
    return ("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n" +
            "".join(f"    {line}\n" for line in ("accessLogFile: /dev/stdout", *lines)))


# ---- sockets inside a namespace

def socket_in(name, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
    """A socket of namespace client or backends. setns holds for this thread only."""
    with open("/proc/thread-self/ns/net") as here, open("/run/netns/" + lab.NAMESPACES[name]) as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.socket(family, kind, protocol)
        finally:
            if LIBC.setns(here.fileno(), CLONE_NEWNET):
                raise SystemExit("tests/lab: cannot come back from the namespace")


def connect(address=GATEWAY, port=80, timeout_s=10, source=None):
    s = socket_in("client", socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.settimeout(timeout_s)
    if source:
        s.bind((source, 0))
    s.connect((address, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Client:
    """One kept-alive HTTP connection from the client namespace."""

    def __init__(self, host, address=GATEWAY, port=80, timeout_s=15):
        self.host, self.address, self.port, self.timeout_s, self.connection = host, address, port, timeout_s, None

    def ask(self, path="/", method="GET", headers=None, body=None):
        """(status, headers in lower case, body). Connects when there is no connection; closes it as HTTP says."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.host, timeout=self.timeout_s)
            self.connection.sock = connect(self.address, self.port, self.timeout_s)
            self.connection.auto_open = 0
        try:
            self.connection.request(method, path, body=body, headers={"Host": self.host, **(headers or {})})
            answer = self.connection.getresponse()
            data = answer.read()
        except BaseException:
            self.close()
            raise
        if self.connection.sock is None:
            self.connection = None
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None


def ask(host, path="/", method="GET", headers=None, body=None, **where):
    client = Client(host, **where)
    try:
        return client.ask(path, method, headers, body)
    finally:
        client.close()


def curl(*words, timeout_s=60):
    """curl in the client namespace; CompletedProcess with text."""
    return run_in("client", "curl", "-sS", "--max-time", str(timeout_s), *words, timeout_s=timeout_s + 10)


def run_in(name, *command, timeout_s=120, **more):
    return subprocess.run(["ip", "netns", "exec", lab.NAMESPACES[name], *command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout_s, **more)


def start_in(name, *command):
    return subprocess.Popen(["ip", "netns", "exec", lab.NAMESPACES[name], *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)


# ---- origins

class Origin:
    """A scripted HTTP/1.1 server in the backends namespace. Its behaviour is its fields, which a test changes while it runs."""

    def __init__(self, address, name, port=8080):
        self.address, self.name, self.port = address, name, port
        self.seen, self.listener, self.open = [], None, set()
        self.calm()
        self.start()

    def calm(self):
        self.status, self.delay_s, self.close_without_answer, self.headers = 200, 0, False, {}
        del self.seen[:]

    def start(self):
        self.listener = socket_in("backends")
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.address, self.port))
        self.listener.listen(1024)
        threading.Thread(target=self.accept_loop, args=(self.listener,), daemon=True).start()

    def accept_loop(self, listener):
        while True:
            try:
                s, peer = listener.accept()
            except OSError:
                return
            self.open.add(s)
            threading.Thread(target=self.serve, args=(s, peer), daemon=True).start()

    def serve(self, s, peer):
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handler(self)(s, peer, None)
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(s)
            self.ended(s)
            s.close()

    def ended(self, s):
        """A connection is over, and about to be closed: for who counts them."""

    def kill(self):
        """As when the process dies: connections end, new ones are refused."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


BLOCK = hashlib.sha512(b"hydrofoil").digest() * 16384  # 1 MiB that no compression would see


def body_of(n_bytes):
    """The blocks of /bytes/N: each begins with its number, so that a lost or doubled one changes the sum."""
    number = 0
    while n_bytes > 0:
        block = number.to_bytes(8, "big") + BLOCK[8:]
        yield block[:n_bytes]
        n_bytes -= len(block)
        number += 1


def sha256_of(blocks):
    h = hashlib.sha256()
    for block in blocks:
        h.update(block)
    return h.hexdigest()


def handler(origin):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def handle_request(self):
            digest = self.take_body()
            origin.seen.append({"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}})
            if origin.delay_s:
                time.sleep(origin.delay_s)
            if origin.close_without_answer:
                self.close_connection = True
                return
            found = re.fullmatch(r"/bytes/(\d+)", self.path)
            length = int(found.group(1)) if found else None
            body = f"{origin.name} {self.path} {digest}\n".encode()
            self.send_response(origin.status)
            self.send_header("content-length", str(len(body) if length is None else length))
            self.send_header("x-origin", origin.name)
            for key, value in origin.headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                for block in [body] if length is None else body_of(length):
                    self.wfile.write(block)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_request

        def take_body(self):
            h, left = hashlib.sha256(), int(self.headers.get("content-length") or 0)
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    h.update(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
            while left:
                block = self.rfile.read(min(left, 1 << 20))
                if not block:
                    raise ValueError("the body ended early")
                h.update(block)
                left -= len(block)
            return h.hexdigest()

        def log_message(self, *ignored):
            pass
    return Handler


class Echo:
    """TCP echo in the backends namespace: closes its side when the peer has closed its own."""

    def __init__(self, address, port=9000):
        self.listener = socket_in("backends")
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(4096)
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with s:
            try:
                while data := s.recv(65536):
                    s.sendall(data)
            except OSError:
                pass

    def kill(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Nginx:
    """nginx in the backends namespace, for load: servers is {address: text that it answers}."""

    def __init__(self, servers, port=8080):
        self.folder = tempfile.mkdtemp(prefix="foil-nginx-")
        blocks = "".join(f'server {{ listen {a}:{port} backlog=4096; location / {{ return 200 "{text}\\n"; }} }}\n' for a, text in servers.items())
        with open(self.folder + "/nginx.conf", "w") as f:
            f.write(f"""daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; worker_processes 1;
                events {{ worker_connections 8192; }}
                http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;
                    client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy; fastcgi_temp_path {self.folder}/fcgi;
                    uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi;
                    {blocks} }}""")
        self.process = start_in("backends", "nginx", "-c", self.folder + "/nginx.conf", "-e", self.folder + "/error.log")
        for address in servers:
            wait_for(lambda: self.answers(address, port), 10, lambda: "nginx does not start: " + ui.tail(self.folder + "/error.log", 5))

    def answers(self, address, port):
        with socket_in("backends") as s:
            s.settimeout(1)
            return s.connect_ex((address, port)) == 0

    def stop(self):
        ui.kill_group(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- load

def wrk(host, path="/", seconds=5, connections=16, threads=1, script=None):
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "--latency", "-H", f"Host: {host}"]
    return start_in("client", *command, *(["-s", script] if script else []), f"http://{GATEWAY}{path}")


def wrk_result(process, limit_s=60):
    """{"requests", "per_s", "bad", "socket_errors"} of a wrk that has ended."""
    text, _ = process.communicate(timeout=limit_s)
    number = lambda pattern: int(found.group(1)) if (found := re.search(pattern, text)) else 0
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", text)
    check(per_s, "wrk said: " + text)
    return {"requests": number(r"(\d+) requests in"), "per_s": float(per_s.group(1)), "bad": number(r"Non-2xx or 3xx responses: (\d+)"),
            "socket_errors": sum(map(int, errors.groups())) if errors else 0, "text": text}


# ---- what the product says

def snapshot():
    return lab.status()["snapshot"]


def wait_applied(before_version, limit_s=15):
    return wait_for(lambda: (s := snapshot()).get("version") != before_version and s.get("state") == "applied" and s, limit_s,
                    lambda: "not applied: " + json.dumps(snapshot()))


def replace(path, text):
    """Write a file as careful people do: whole, then renamed."""
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


class Log:
    """The access log from here on."""

    def __init__(self):
        self.path = lab.status()["access_log"]
        self.offset = os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def lines(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, errors="replace") as f:
            f.seek(self.offset)
            return f.read().splitlines()

    def find(self, *words, limit_s=3):
        """The first line with all the words."""
        return wait_for(lambda: next((line for line in self.lines() if all(w in line for w in words)), None), limit_s,
                        lambda: f"no line with {words} in the access log; it has: " + " | ".join(self.lines()[-5:]))


SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')


class Metrics:
    """One reading of the exposition."""

    def __init__(self, port=15090, path="/stats/prometheus"):
        code, self.text = lab.get(path, port)
        check(code == 200, f"http://127.0.0.1:{port}{path}: {code} {self.text[:200]}")
        self.samples = [(m.group(1), dict(LABEL.findall(m.group(2) or "")), float(m.group(3)))
                        for line in self.text.splitlines() if (m := SAMPLE.match(line))]
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.M))

    def sum(self, name, **labels):
        """Of all samples of that name whose labels hold these."""
        return sum(value for n, have, value in self.samples if n == name and all(have.get(k) == str(v) for k, v in labels.items()))

    def gauges(self):
        return {name: self.sum(name) for name, kind in self.types.items() if kind == "gauge"}


class Counted:
    """with Counted("istio_requests_total", response_code=504) as n: ...; n.grew(1) waits until the sum has grown by so much."""

    def __init__(self, name, **labels):
        self.name, self.labels = name, labels

    def __enter__(self):
        self.before = self.now()
        return self

    def __exit__(self, *ignored):
        return False

    def now(self):
        return Metrics().sum(self.name, **self.labels)

    def grew(self, by):
        wait_for(lambda: self.now() - self.before >= by, 5, lambda: f"{self.name}{self.labels} grew by {self.now() - self.before}, not {by}")
