"""Names among the endpoints: a name server that answers, moves a name under load, says that there is no such name, and dies. What is expected is what
Envoy 1.40 under istiod did with the same answers."""
import json
import os
import socket
import struct
import subprocess
import threading
import time

import shared
import support
from foilrun import build
from support import ask, check, wait_for, wrk, wrk_result

WITH_LAB = True
FILE = "97-names.yaml"
HOST, ONE = "names.example.com", "one-name.example.com"
V1, V2 = shared.ADDRESSES["v1"], shared.ADDRESSES["v2"]
SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: bookinfo}
spec:
  hosts: [%s]
  resolution: %s
  ports: [{number: 8080, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s, namespace: bookinfo}
spec:
  hosts: [%s]
  gateways: [front]
  http: [{route: [{destination: {host: %s, port: {number: 8080}}}]}]
"""
CONFIG = "---".join(SERVICE % (name, host, how, name, authority, host) for name, host, how, authority in (
    ("names", "names.lab", "DNS", HOST), ("one-name", "one.names.lab", "DNS_ROUND_ROBIN", ONE)))


class NameServer:
    """A records with a TTL of 1 s, over UDP where the lab's agent asks; None: no such name. Dead: it takes questions and answers none."""

    def __init__(self, address=support.NAME_SERVER):
        self.zone, self.is_dead = {}, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        while True:
            try:
                question, peer = self.socket.recvfrom(2048)
            except OSError:
                return
            if not question:
                return
            if not self.is_dead:
                self.socket.sendto(self.answer(question), peer)

    def answer(self, question):
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode())
            at += question[at] + 1
        addresses = self.zone.get(".".join(labels).lower())
        is_a = question[at + 1:at + 3] == b"\0\1"
        records = [struct.pack("!HHHIH", 0xc00c, 1, 1, 1, 4) + socket.inet_aton(a) for a in (addresses or []) if is_a]
        head = struct.pack("!HHHHH", 0x8180 | (3 if addresses is None else 0), 1, len(records), 0, 0)
        return question[:2] + head + question[12:at + 5] + b"".join(records)

    def close(self):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join(10)
        self.socket.close()


SERVER = None


def stands():
    done = subprocess.run([build.program("foilctl", shared.BUILD), "dns", "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    return {n["name"]: n for n in json.loads(done.stdout)}


def name_is(name, addresses):
    wait_for(lambda: stands().get(name, {}).get("addresses") == addresses, 20, lambda: f"{name} is not {addresses}: {stands()}")


def answers(host, origin):
    status, headers, _ = ask(host)
    return status == 200 and headers["x-origin"] == origin


def test_a_name_becomes_endpoints():
    global SERVER
    SERVER = NameServer()
    SERVER.zone = {"names.lab": [V1], "one.names.lab": [V2, V1]}
    before = support.snapshot()["version"]
    support.replace(shared.config_file(FILE), CONFIG)
    support.wait_applied(before)
    for _ in range(10):  # from the first request on: the configuration waited for the addresses
        check(answers(HOST, "v1") and answers(ONE, "v2"), f"{ask(HOST)} {ask(ONE)} {stands()}")


def test_addresses_that_change_under_load_cost_no_request():
    with shared.NginxInstead("v1", "v2"):
        load = wrk(HOST, seconds=6)
        for addresses in ([V1, V2], [V2], [V1], [V2, V1], [V2]):
            SERVER.zone["names.lab"] = addresses
            name_is("names.lab", addresses)
        result = wrk_result(load)
        check(result["requests"] > 100 and result["bad"] == 0 and result["socket_errors"] == 0, result["text"])
        wait_for(lambda: ask(HOST)[2].startswith(b"v2"), 5, lambda: f"{ask(HOST)}")


def test_a_dead_name_server_stops_nothing_and_is_noticed_when_it_returns():
    SERVER.zone["names.lab"] = [V1]
    name_is("names.lab", [V1])
    SERVER.is_dead = True
    SERVER.zone["names.lab"] = [V2]
    until = time.monotonic() + 3
    while time.monotonic() < until:
        check(answers(HOST, "v1"), f"{ask(HOST)}")
        time.sleep(0.05)
    SERVER.is_dead = False
    name_is("names.lab", [V2])
    wait_for(lambda: answers(HOST, "v2"), 5, lambda: f"{ask(HOST)}")


def test_a_name_that_is_gone_has_no_upstream_and_a_round_robin_one_keeps_its_last():
    SERVER.zone = {}
    name_is("names.lab", [])
    name_is("one.names.lab", [])
    wait_for(lambda: ask(HOST)[0] == 503, 5, lambda: f"{ask(HOST)}")
    log = support.Log()
    check(ask(HOST, "/gone")[2] == b"no healthy upstream", f"{ask(HOST)}")
    line = log.find("/gone")
    check(" 503 UH no_healthy_upstream " in line and "outbound|8080||names.lab" in line, line)
    check(answers(ONE, "v2"), f"{ask(ONE)}")
    check(stands()["names.lab"]["state"] == "no_name" and stands()["one.names.lab"]["last_good"] == 2, f"{stands()}")


def test_zz_put_back():
    before = support.snapshot()["version"]
    os.unlink(shared.config_file(FILE))
    support.wait_applied(before)
    check(stands() == {}, f"{stands()}")
    SERVER.close()
