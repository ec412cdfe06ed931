"""Origins that do what a request's own headers tell them, and tables of requests with all that must follow: the answer, what the origins saw, the line in
the access log, and in the end the metrics."""
import http.client
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import support
from foilrun import lab
from support import check, wait_for

LINE = re.compile(r'^\[(?P<start>[^]]*)\] "(?P<request>[^"]*)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) (?P<termination>\S+) "(?P<transport>[^"]*)" '
                  r'(?P<received>\d+) (?P<sent>\d+) (?P<ms>\d+) (?P<upstream_ms>\S+) "(?P<xff>[^"]*)" "(?P<agent>[^"]*)" "(?P<id>[^"]*)" '
                  r'"(?P<authority>[^"]*)" "(?P<upstream>[^"]*)" (?P<cluster>\S+) (?P<upstream_local>\S+) (?P<local>\S+) (?P<remote>\S+) '
                  r'(?P<sni>\S+) (?P<route>\S+)$')
L4_LINE = re.compile(r'^\[[^]]*\] "- - -" 0 (?P<flags>\S+) (?P<details>\S+) (?P<termination>\S+) "(?P<transport>[^"]*)" (?P<received>\d+) (?P<sent>\d+) '
                     r'(?P<ms>\d+) \S+ "[^"]*" "[^"]*" "[^"]*" "[^"]*" "(?P<upstream>[^"]*)" (?P<cluster>\S+) \S+ (?P<local>\S+) (?P<remote>\S+) '
                     r'(?P<sni>\S+) (?P<route>\S+)$')


class Told(support.Origin):
    """x-do (x-do-NAME for this origin alone) has words: status=503, sleep=0.3, close, reset, half (a body that stays away), set=name:value, first=N (only
    for the first N requests with this user-agent here). The answer is "NAME METHOD PATH\\n"."""

    def serve(self, s, peer):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        f = s.makefile("rb")
        try:
            while self.one(s, f, peer):
                pass
        except OSError:
            pass  # who asked has left
        finally:
            f.close()
            self.open.discard(s)
            self.ended(s)
            s.close()

    def one(self, s, f, peer):
        line = f.readline(65536).split()
        if len(line) != 3:
            return False
        fields = http.client.parse_headers(f)
        headers = {}
        for key, value in fields.items():
            headers[key.lower()] = headers[key.lower()] + "," + value if key.lower() in headers else value
        body = f.read(int(headers.get("content-length", 0)))
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(f.readline().split(b";")[0], 16):
                body += f.read(size)
                f.readline()
            f.readline()
        agent = headers.get("user-agent", "")
        n_before = sum(r["agent"] == agent for r in self.seen)
        self.seen.append({"origin": self.name, "method": line[0].decode(), "path": line[1].decode(), "headers": headers, "agent": agent, "peer": peer,
                          "body": body, "at": time.monotonic()})
        do = dict((word + "=").split("=", 1) for word in (headers.get("x-do-" + self.name) or headers.get("x-do") or "").split())
        do = {k: v.rstrip("=") if k != "set" else v[:-1] for k, v in do.items()}
        if "first" in do and n_before >= int(do["first"]):
            do = {}
        return self.answer(s, line, do)

    def answer(self, s, line, do):
        if "sleep" in do:
            time.sleep(float(do["sleep"]))
        if "reset" in do:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if "reset" in do or "close" in do:
            return False
        body = f"{self.name} {line[0].decode()} {line[1].decode()}\n".encode()
        more = do["set"].replace(":", ": ", 1) + "\r\n" if "set" in do else ""
        head = f"HTTP/1.1 {do.get('status', 200)} Told\r\nx-origin: {self.name}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode()
        if "half" in do:
            s.sendall(head + body[:1])
            time.sleep(float(do["half"] or 2))
            return False
        s.sendall(head + (b"" if line[0] == b"HEAD" else body))
        return True


class Answer:
    def __init__(self, status, headers, body, is_whole=True):
        self.status, self.headers, self.body, self.is_whole = status, headers, body, is_whole


def send(host, path, method="GET", headers=(), body=b"", address=support.GATEWAY, port=80, source=None, timeout_s=15):
    """headers: a list of (name, value) or a dict; they go out as they are."""
    s = support.connect(address, port, timeout_s, source)
    with s:
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if body:
            pairs.append(("content-length", str(len(body))))
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}"] + [f"{k}: {v}" for k, v in pairs]
        s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        answer = http.client.HTTPResponse(s, method=method)
        answer.begin()
        try:
            data, is_whole = answer.read(), True
        except http.client.IncompleteRead as e:
            data, is_whole = e.partial, False
        got = {}
        for k, v in answer.getheaders():
            got[k.lower()] = got[k.lower()] + "," + v if k.lower() in got else v
        return Answer(answer.status, got, data.decode("latin-1"), is_whole)


class Table:
    """Cases one after the other; end() compares the metrics with all of them."""

    n_all = 0

    def __init__(self, origins, **usual):
        self.origins, self.usual, self.log, self.tally = origins, usual, support.Log(), {}
        self.before = support.Metrics()

    def seen(self, agent):
        return sorted((r for o in self.origins for r in list(o.seen) if r["agent"] == agent), key=lambda r: r["at"])

    def line(self, agent):
        text = self.log.find(f'"{agent}"')
        found = LINE.match(text)
        check(found, "the access log has another form: " + text)
        return found.groupdict()

    def case(self, rows, path="/", status=200, *, origin=None, body=None, answer=None, flags="-", details=None, saw=None, n_saw=None, cluster=None, route=None,
             is_whole=True, **request):
        """rows: ids of what it shows. origin: who must have answered, so that body and details follow. answer and saw: headers of the answer and of the
        last request at an origin, None: not there; saw["path"], saw["method"] too. Gives (Answer, log line, requests at origins)."""
        Table.n_all += 1
        agent = f"row-{Table.n_all}"
        request = {**self.usual, **request}
        headers = request.pop("headers", {})
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        name = f"{rows}: {request.get('method', 'GET')} {request.get('host')}{path} {pairs}"
        got = send(path=path, headers=pairs + [("user-agent", agent)], body=request.pop("body_of_request", b""), **request)
        line, requests = self.line(agent), self.seen(agent)
        said = f"{name}: {got.status} {got.headers} {got.body!r}; {line}; {[(r['origin'], r['path'], r['headers']) for r in requests]}"
        last = requests[-1] if requests else None
        check(got.status == status and got.is_whole == is_whole, "status: " + said)
        if origin is not None:
            wanted = (saw or {}).get("path", path)
            check(got.headers.get("x-origin") == origin and last, f"origin {origin}: {said}")
            body = f"{origin} {request.get('method', 'GET')} {wanted}\n" if body is None else body
        check(body is not None and got.body == body, f"body {body!r}: {said}")
        for key, value in (answer or {}).items():
            check(got.headers.get(key) == value, f"header {key} is not {value!r}: {said}")
        for key, value in (saw or {}).items():
            have = last and (last[key] if key in ("path", "method") else last["headers"].get(key))
            check(last and have == value, f"the origin's {key} is not {value!r}: {said}")
        check(n_saw is None or len(requests) == n_saw, f"{n_saw} requests at origins: {said}")
        check(origin or n_saw is not None or not requests, "an origin was asked: " + said)
        check(int(line["code"]) == status and set(line["flags"].split(",")) == set(flags.split(",")), f"flags {flags}: {said}")
        details = details or ("via_upstream" if origin else None)
        check(details and line["details"].split("|")[0].rstrip("}") == details.rstrip("}"), f"details {details}: {said}")
        check(cluster is None or line["cluster"] == cluster, f"cluster {cluster}: {said}")
        check(route is None or line["route"] == route, f"route {route}: {said}")
        self.count(status, line["flags"])
        return got, line, requests

    def count(self, status, flags, by=1):
        key = (str(status), flags)
        self.tally[key] = self.tally.get(key, 0) + by

    def many(self, n, path="/", **request):
        """n requests that nobody looks at in the log: [(Answer, requests at origins)]."""
        found = []
        for _ in range(n):
            Table.n_all += 1
            agent = f"row-{Table.n_all}"
            pairs = dict(request.get("headers", {}))
            got = send(path=path, **{**self.usual, **request, "headers": {**pairs, "user-agent": agent}})
            found.append((got, self.seen(agent)))
            self.count(got.status, "-")
        return found

    def end(self):
        def grown():
            now = support.Metrics()
            return {key: now.sum("istio_requests_total", response_code=key[0], response_flags=key[1]) -
                    self.before.sum("istio_requests_total", response_code=key[0], response_flags=key[1]) for key in self.tally}
        wait_for(lambda: grown() == self.tally, 5, lambda: f"istio_requests_total by (code, flags) grew by {grown()}, not {self.tally}")


class Grew:
    """with Grew("foil_mesh_mirrors_total", 1): a counter of ours grows by so much at least, by no more if exactly."""

    def __init__(self, name, by=1, exactly=True, **labels):
        self.name, self.by, self.exactly, self.labels = name, by, exactly, labels

    def now(self):
        return support.Metrics().sum(self.name, **self.labels)

    def __enter__(self):
        self.before = self.now()
        return self

    def __exit__(self, kind, *ignored):
        if kind is None:
            wait_for(lambda: self.now() - self.before >= self.by, 5, lambda: f"{self.name} grew by {self.now() - self.before}, not {self.by}")
            check(not self.exactly or self.now() - self.before == self.by, f"{self.name} grew by {self.now() - self.before}, not {self.by}")
        return False


# ---- configuration

HERE = "directResponse: {status: 200, body: {string: %s}}"


def on(match, does):
    return f"match: [{match}], {does}"


def at(path, does):
    return on(f"{{uri: {{prefix: {path}}}}}", does)


def says(word):
    return HERE % word


class Named(support.Echo):
    """Says who it is, then echoes."""

    def __init__(self, address, name, port=9000):
        self.name = name
        super().__init__(address, port)

    def serve(self, s):
        try:
            s.sendall(self.name)
        except OSError:
            pass
        super().serve(s)


def reaches(name, address, port=9443):
    """Which Named is spoken to by a TLS client that went to this address with this name; b"" nobody. What comes back after that must be what was sent."""
    first = hello(name)
    with support.connect(address, port, 5) as s:
        s.sendall(first)
        s.shutdown(socket.SHUT_WR)
        data = b""
        try:
            while more := s.recv(65536):
                data += more
        except ConnectionError:
            pass
    check(not data or data.endswith(first), f"{name}: {len(data)} bytes came back")
    return data[:-len(first)] if data else b""


def to(host, weight=None, headers=None, **more):
    words = [f"destination: {{host: {host}, port: {{number: {more.get('port', 8080)}}}}}"]
    words += [f"weight: {weight}"] if weight is not None else []
    words += [f"headers: {headers}"] if headers else []
    return "{" + ", ".join(words) + "}"


def validate(text):
    with tempfile.TemporaryDirectory(prefix="foil-validate-") as folder:
        support.replace(os.path.join(folder, "all.yaml"), text)
        done = subprocess.run([lab.read_state()["programs"]["foilctl"], "validate", folder], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout + done.stderr


def hello(name, n_fill=0):
    """A ClientHello as OpenSSL writes it, with so many ALPN names that it has n_fill bytes more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if n_fill:
        context.set_alpn_protocols([f"p{i:0>250}" for i in range(n_fill // 252)])
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inward, outward, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outward.read()
