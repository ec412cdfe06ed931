"""A worker that has too little of something does less, and goes on as soon as there is room (docs/operating.md, "When there is too little")."""
import contextlib
import threading

import support
from resources import own_lab, service_entry, virtual_service
from support import Client, Counted, Log, Metrics, Origin, check, wait_for

ORIGIN = "198.19.0.10"
HOST = "web.test"
CONFIG = support.mesh_config() + support.gateway() + service_entry("web", ORIGIN) + \
    virtual_service("web", f"[{HOST}]", ["route: [{destination: {host: web.test, port: {number: 8080}}}]"])


def equal(value, wanted):
    check(value == wanted, f"{value!r}, not {wanted!r}")


def few(**limits):
    words = ", ".join(f"{k}: {v}" for k, v in {"megabytes": 512, "hugepages": "auto", "connections": 40000, "requests": 8192, **limits}.items())
    return lambda node: "".join(f"memory: {{{words}}}\n" if line.startswith("memory:") else line for line in node.splitlines(True))


@contextlib.contextmanager
def served(n_clients, **limits):
    """A lab with limits, an origin, and so many clients that keep their connections and have been served once."""
    with own_lab("overload", CONFIG, few(**limits)):
        origin, clients = Origin(ORIGIN, "one"), [Client(HOST) for _ in range(n_clients)]
        try:
            for client in clients:
                equal(client.ask("/first")[0], 200)
            yield origin, clients
        finally:
            for client in clients:
                client.close()
            origin.kill()


def test_connections_at_rest_make_room_for_new_ones():
    """Many more clients than the table has places, each keeping its connection: everyone is served; the oldest at rest go, and answers end connections."""
    with served(500, connections=256):
        check(Metrics().sum("foil_mesh_overload_closed_total") >= 10, "connections at rest were not closed")
        check(Metrics().sum("foil_core_pressure_connections_total") >= 1, "no shortage was counted")
        wait_for(lambda: Metrics().sum("foil_core_overload_shrink") == 0, 5, "the worker goes on shrinking")


def test_too_many_requests_are_refused_and_told_so():
    with served(70, requests=64) as (origin, clients):
        slow, answers, log = clients[:64], [], Log()
        origin.delay_s = 5
        threads = [threading.Thread(target=lambda c=c: answers.append(c.ask("/slow")[0])) for c in slow]
        for t in threads:
            t.start()
        wait_for(lambda: Metrics().sum("foil_core_overload_stop_requests") == 1, 5, "no worker refuses requests")
        with Counted("foil_mesh_replies_total", reason="overloaded") as refused, Counted("istio_requests_total", response_flags="OM") as told:
            status, headers, body = clients[64].ask("/too-many")
            equal((status, body, headers["content-type"]), (503, b"overloaded", "text/plain"))
            refused.grew(1)
            told.grew(1)
        log.find("/too-many", " 503 OM overload ")
        for t in threads:
            t.join()
        equal(sorted(set(answers)), [200])
        origin.delay_s = 0
        wait_for(lambda: Metrics().sum("foil_core_overload_stop_requests") == 0, 3, "the worker goes on refusing")
        equal(clients[64].ask("/again")[0], 200)
        equal(support.ask(HOST)[0], 200)
        equal(Metrics().sum("foil_core_pressure_requests_total"), 1)
