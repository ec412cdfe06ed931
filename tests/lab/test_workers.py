"""Two workers: limits over both of them, counted at the origin, and of clients; endpoints that come and go under load, all at once too."""
import os
import socket
import tempfile
import threading
import time

import run
import support
from foilrun import lab
from support import Skip, ask, check, wait_for

HOST, PORT = "limits.example.com", 8080
ADDRESSES = ("198.19.0.30", "198.19.0.31", "198.19.0.32")
LIMIT, CLIENTS, REQUESTS_EACH = 7, 40, 12
CONFIG = support.gateway() + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: limits, namespace: app}
spec:
  hosts: [limits.example.com]
  gateways: [istio-system/main]
  http: [{retries: {attempts: 3, retryOn: "connect-failure,refused-stream,reset"}, route: [{destination: {host: limits.test, port: {number: 8080}}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: limits, namespace: app}
spec: {host: limits.test, trafficPolicy: {connectionPool: POOL}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: limits, namespace: app}
spec:
  hosts: [limits.test]
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [ENDPOINTS]
"""


class Counting(support.Origin):
    """Knows how many connections it had at most at one time."""

    def __init__(self, address, delay_s=0):
        self.lock, self.n, self.most = threading.Lock(), 0, 0
        super().__init__(address, address)
        self.delay_s = delay_s

    def serve(self, s, peer):
        with self.lock:
            self.n += 1
            self.most = max(self.most, self.n)
        super().serve(s, peer)

    def ended(self, s):
        with self.lock:
            self.n -= 1


class Two:
    """with Two(pool, endpoints) as lab_of_two: the lab with two workers."""

    def __init__(self, pool, endpoints, mesh=""):
        self.pool, self.mesh, self.folder = pool, mesh, tempfile.mkdtemp(prefix="foil-two-")
        self.config = os.path.join(self.folder, "config")
        os.mkdir(self.config)
        self.write(endpoints)

    def write(self, addresses):
        text = self.mesh + CONFIG.replace("POOL", self.pool).replace("ENDPOINTS", ", ".join(f"{{address: {a}}}" for a in addresses))
        support.replace(os.path.join(self.config, "limits.yaml"), text)

    def __enter__(self):
        node = os.path.join(self.folder, "node.yaml")
        with open(lab.DEFAULT_NODE) as f, open(node, "w") as out:
            out.write(f.read().replace("workers: {count: 1}", "workers: {count: 2}"))
        status, text = run.quietly_up(self.config, node)
        check(status == 0, text)
        return self

    def __exit__(self, *ignored):
        lab.down(keep_quiet=True)
        return False

    def endpoints(self, *addresses):
        before = support.snapshot()["version"]
        self.write(addresses)
        support.wait_applied(before)


def many(n_clients, n_each, path="/"):
    """Statuses of n_each requests of each client, each on a connection of its own, at the same time."""
    found, lock = {}, threading.Lock()

    def one():
        c = support.Client(HOST)
        for _ in range(n_each):
            status = c.ask(path)[0]
            with lock:
                found[status] = found.get(status, 0) + 1
        c.close()
    threads = [threading.Thread(target=one) for _ in range(n_clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return found


@support.rows("DR-35")
def test_a_limit_of_connections_holds_over_two_workers():
    if (os.cpu_count() or 1) < 2:
        raise Skip("one CPU")
    with Two(f"{{tcp: {{maxConnections: {LIMIT}}}}}", ADDRESSES[:1]):
        origin = Counting(ADDRESSES[0], 0.005)
        found = many(CLIENTS, REQUESTS_EACH)
        check(found == {200: CLIENTS * REQUESTS_EACH}, str(found))
        check(origin.most == LIMIT, f"{origin.most} connections at once, {LIMIT} are allowed")
        origin.kill()


def test_a_limit_of_one_connection_serves_both_workers():
    with Two("{tcp: {maxConnections: 1}}", ADDRESSES[:1]):
        origin = Counting(ADDRESSES[0])
        found = many(8, 10)
        check(found == {200: 80}, str(found))
        check(origin.most == 1, f"{origin.most} connections at once")
        origin.kill()


def refused(s):
    """Whether the connection was closed, in order, before anything was said."""
    s.settimeout(0.3)
    try:
        return s.recv(1) == b""
    except socket.timeout:
        return False


def test_a_limit_of_clients_holds_over_two_workers():
    limits = support.mesh_config("defaultConfig: {connectionSettings: {listenerConnectionLimit: 6, globalDownstreamConnectionLimit: 8}}")
    with Two("{}", ADDRESSES[:1], limits) as two:
        origin = Counting(ADDRESSES[0])
        with support.Counted("foil_mesh_downstream_cx_overflow_total") as overflow:
            clients = [support.connect() for _ in range(10)]
            closed = [c for c in clients if refused(c)]
            check(len(closed) == 4, f"{len(closed)} of 10 closed, 6 are allowed")
            overflow.grew(4)
        served = [c for c in clients if c not in closed]
        for c in served[:2]:
            c.sendall(b"GET / HTTP/1.1\r\nhost: limits.example.com\r\n\r\n")
            check(c.recv(100).startswith(b"HTTP/1.1 200 "), "who is there is not served")
        served.pop().close()
        wait_for(lambda: not refused(support.connect()), 5, "a place that was given back is not taken")
        before = support.snapshot()["version"]
        two.mesh = support.mesh_config("defaultConfig: {connectionSettings: {listenerConnectionLimit: 100, globalDownstreamConnectionLimit: 8}}")
        two.write(ADDRESSES[:1])
        support.wait_applied(before)
        more = [support.connect() for _ in range(6)]
        n = sum(not refused(c) for c in more) + len(served)
        check(6 <= n <= 8, f"{n} at a time, 8 are allowed")
        wait_for(lambda: support.Metrics().sum("foil_mesh_downstream_global_cx_overflow_total") >= 3, 5, "the node's counter does not tell")
        origin.kill()


def test_a_long_answer_waits_for_a_slow_reader():
    with Two("{}", ADDRESSES[:1], support.mesh_config("defaultConfig: {connectionSettings: {listenerPerConnectionBufferLimitBytes: 32768}}")):
        origin = Counting(ADDRESSES[0])
        s = support.connect()
        s.sendall(b"GET /bytes/8388608 HTTP/1.1\r\nhost: limits.example.com\r\n\r\n")
        time.sleep(1)  # the client's window and what may wait are full now
        n, most = 0, 8388608
        while n < most:
            got = s.recv(1 << 18)
            check(got, f"ended after {n} bytes")
            n += len(got)
        s.close()
        origin.kill()


def test_endpoints_come_and_go_under_load():
    with Two("{}", ADDRESSES[:2]) as two:
        origins = [Counting(a) for a in ADDRESSES]
        found, stop = {}, threading.Event()

        def load():
            c = support.Client(HOST)
            while not stop.is_set():
                status = c.ask()[0]
                found[status] = found.get(status, 0) + 1
            c.close()
        threads = [threading.Thread(target=load) for _ in range(4)]
        for t in threads:
            t.start()
        for addresses in ((0, 1, 2), (1, 2), (2,), (0, 2), (0, 1)) * 2:
            two.endpoints(*(ADDRESSES[i] for i in addresses))
            time.sleep(0.2)
        stop.set()
        for t in threads:
            t.join()
        check(list(found) == [200], f"{found}")
        check(all(o.most for o in origins), f"an origin saw no connection: {[o.most for o in origins]}")
        for o in origins:
            o.kill()


def test_all_endpoints_die_and_come_back():
    with Two("{}", ADDRESSES[:2]) as two:
        origins = [Counting(a) for a in ADDRESSES[:2]]
        check(ask(HOST)[0] == 200, "not up")
        two.endpoints()
        status, _, body = ask(HOST)
        check(status == 503 and "no healthy upstream" in str(body), f"{status} {body}")
        two.endpoints(*ADDRESSES[:2])
        check(ask(HOST)[0] == 200, "configured again, but no answer")
        for o in origins:
            o.kill()
        check(ask(HOST)[0] == 503, "an answer from nobody")
        for o in origins:
            o.start()
        wait_for(lambda: ask(HOST)[0] == 200, 1, "no answer within a second")
        for o in origins:
            o.kill()
