"""Two workers: limits over both of them, counted at the origin; endpoints that come and go under load, all at once too."""
import os
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

    def __init__(self, pool, endpoints):
        self.pool, self.folder = pool, tempfile.mkdtemp(prefix="foil-two-")
        self.config = os.path.join(self.folder, "config")
        os.mkdir(self.config)
        self.write(endpoints)

    def write(self, addresses):
        text = CONFIG.replace("POOL", self.pool).replace("ENDPOINTS", ", ".join(f"{{address: {a}}}" for a in addresses))
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
