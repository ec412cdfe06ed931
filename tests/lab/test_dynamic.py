"""Hosts that requests name (ServiceEntry with resolution DYNAMIC_DNS): an own name server, HTTP at a gateway and at captured addresses, TLS by server name.
What is answered is what Envoy 1.40 under istiod did; what may not be reached is our own."""
import contextlib
import os
import signal
import ssl
import subprocess
import tempfile
import threading
import time

import support
import test_names
import told
from foilrun import lab
from resources import destination_rule, own_lab, service_entry, virtual_service
from support import check, wait_for

FIRST, SECOND, ELSEWHERE = "198.19.0.65", "198.19.0.66", "198.19.0.67"
ADDRESS = "127.0.0.1:15054"


def to(host, port):
    return f"route: [{{destination: {{host: '{host}', port: {{number: {port}}}}}}}]"


CONFIG = support.gateway() + "".join((
    service_entry("dyn", hosts="['*.dyn.lab']", resolution="DYNAMIC_DNS",
                  ports="[{number: 8080, name: http, protocol: HTTP}, {number: 9443, name: tls, protocol: TLS}]"),
    virtual_service("dyn", "['*']", [to("*.dyn.lab", 8080)]),
    service_entry("tls", hosts="['*.tls.lab']", resolution="DYNAMIC_DNS", ports="[{number: 80, name: http, protocol: HTTP}]"),
    destination_rule("tls", "*.tls.lab", "tls: {mode: SIMPLE, caCertificates: FOLDER/a.crt}"),
    virtual_service("tls", "['*.tls.lab']", [to("*.tls.lab", 80)]))) + support.mesh_config()


class Lab:
    server, tls = None, None


class TlsOrigin(support.Origin):
    """Is a.tls.lab, whatever it is called; what it was called is in names."""

    def __init__(self, address, folder):
        self.names, self.context = [], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{folder}/a.crt", f"{folder}/a.key")
        self.context.sni_callback = lambda s, name, context: self.names.append(name)
        super().__init__(address, "tls", 443)

    def serve(self, s, peer):
        try:
            t = self.context.wrap_socket(s, server_side=True)
        except (OSError, ssl.SSLError):
            s.close()
            return
        super().serve(t, peer)


@contextlib.contextmanager
def dynamic(n_workers):
    """The lab with so many workers and half of the backends' addresses captured, origins there, and a name server."""
    def node(text):
        return text.replace("workers: {count: 1}", f"workers: {{count: {n_workers}}}") + "captured: [198.19.0.64/26]\n"

    Lab.server, origins = test_names.NameServer(ADDRESS), []
    os.environ["FOIL_AGENT_ARGS"] = "--dns-servers " + ADDRESS
    try:
        with tempfile.TemporaryDirectory(prefix="foil-dynamic-") as keys:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keys + "/a.key", "-out",
                            keys + "/a.crt", "-days", "1", "-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.tls.lab"], check=True, capture_output=True)
            with own_lab("dynamic", CONFIG.replace("FOLDER", keys), node):
                Lab.tls = TlsOrigin(FIRST, keys)
                origins += [Lab.tls, support.Origin(FIRST, "first"), support.Origin(SECOND, "second"), told.Named(FIRST, b"1", 9443),
                            told.Named(SECOND, b"2", 9443)]
                Lab.server.zone = {"a.tls.lab": [FIRST], "b.tls.lab": [FIRST], "a.dyn.lab": [FIRST], "b.dyn.lab": [SECOND], "lo.dyn.lab": ["127.0.0.1"],
                                   "cloud.dyn.lab": ["169.254.169.254"], "us.dyn.lab": ["198.18.0.1"], "vip.dyn.lab": ["198.18.10.1"]}
                try:
                    yield
                finally:
                    for origin in origins:
                        origin.kill()
    finally:
        os.environ.pop("FOIL_AGENT_ARGS", None)
        Lab.server.close()


def ask(host, path="/", **where):
    status, headers, body = support.ask(host, path, **where)
    return status, headers.get("x-origin"), body


def counter(name):
    return support.Metrics().sum(name)


def invented(n):
    """Names that nobody has, by some clients at once; what came back that was no 503."""
    wrong = []

    def some(part):
        client = support.Client("a.dyn.lab")
        for i in range(n // 4):
            client.host = f"x{part}-{i}.dyn.lab:8080"
            status = client.ask()[0]
            if status != 503:
                wrong.append(f"{client.host}: {status}")
        client.close()

    threads = [threading.Thread(target=some, args=(part,)) for part in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    return wrong


@support.rows("SE-3")
def test_requests_go_to_the_hosts_they_name():
    with dynamic(2):
        log = support.Log()
        for host, origin in (("a.dyn.lab:8080", "first"), ("b.dyn.lab:8080", "second"), ("A.Dyn.Lab:8080", "first"), (f"{SECOND}:8080", "second")):
            check(ask(host, "/to")[:2] == (200, origin), f"{host}: {ask(host)}")
        line = log.find("/to", "b.dyn.lab")
        check(f'"{SECOND}:8080" outbound|8080||*.dyn.lab' in line, line)
        status, _, body = ask("none.dyn.lab:8080", "/none")
        check((status, body) == (503, b"no healthy upstream"), f"{status} {body}")
        log.find("/none", " 503 UH dns_resolution_failure{no_address} ")
        for host in ("lo.dyn.lab", "cloud.dyn.lab", "us.dyn.lab", "vip.dyn.lab", "169.254.169.254", "127.0.0.1", "198.18.0.1:15000"):
            check(ask(host, f"/bad/{host}")[0] == 503, f"{host}: {ask(host)}")
            line = log.find(f"/bad/{host}")
            check("dns_resolution_failure{" in line and " - 198.18.0.1:80 " in line, line)
        check(ask("a_b!.dyn.lab", "/odd")[0] in (400, 503), "what is no name")
        # at captured addresses, wherever the client went; and TLS by its name
        for host, origin in (("a.dyn.lab:8080", "first"), ("b.dyn.lab:8080", "second")):
            check(ask(host, address=ELSEWHERE, port=8080)[:2] == (200, origin), f"{host} captured: {ask(host, address=ELSEWHERE, port=8080)}")
        status, _, body = ask("none.dyn.lab:8080", "/gone", address=ELSEWHERE, port=8080)
        check((status, body) == (503, b"DNS resolution failure"), f"{status} {body}")
        log.find("/gone", " 503 DF dns_resolution_failure{no_address} ")
        for name, who in (("a.dyn.lab", b"1"), ("B.dyn.lab", b"2"), ("none.dyn.lab", b""), ("lo.dyn.lab", b"")):
            found = told.reaches(name, ELSEWHERE)
            check(found == who, f"{name}: {found}")
        log.find(f'"{SECOND}:9443" outbound|9443||*.dyn.lab', " b.dyn.lab ")
        log.find(" UH ", " none.dyn.lab ")
        # TLS of our own: the name is told, and must be in the certificate; no connection of one name serves another
        check(ask("a.tls.lab")[:2] == (200, "tls") and ask("A.tls.lab")[:2] == (200, "tls"), f"{ask('a.tls.lab')}")
        check(ask("b.tls.lab", "/wrong")[0] == 503, f"{ask('b.tls.lab')}")
        check("TLS_error" in log.find("/wrong", " 503 "), "no TLS error is told")
        check(set(Lab.tls.names) == {"a.tls.lab", "b.tls.lab"}, f"{Lab.tls.names}")
        # names without end: all are refused, none stays, and who is known is served meanwhile
        wrong = invented(2000)
        check(not wrong, f"{wrong[:5]}")
        check(ask("a.dyn.lab:8080")[:2] == (200, "first"), f"{ask('a.dyn.lab:8080')}")
        check(counter("foil_mesh_names") <= 1024 * 2 and counter("foil_mesh_name_queries_total") >= 1000, f"{counter('foil_mesh_names')} names")
        wait_for(lambda: counter("foil_mesh_names") < 20, 15, lambda: f"{counter('foil_mesh_names')} names stay")


def test_hosts_that_move_and_servers_and_agents_that_die():
    with dynamic(1):  # which of them hears of a change first is not to be told
        check(ask("a.dyn.lab:8080")[:2] == (200, "first"), f"{ask('a.dyn.lab:8080')}")
        Lab.server.zone["a.dyn.lab"] = [SECOND]
        wait_for(lambda: ask("a.dyn.lab:8080")[:2] == (200, "second"), 15, lambda: f"{ask('a.dyn.lab:8080')}")  # TTL 1 s, asked every 5 s
        Lab.server.is_dead = True
        started = time.monotonic()
        status = ask("b.dyn.lab:8080")[0]
        check(status == 503, f"{status}")
        check(4 < time.monotonic() - started < 9, f"after {time.monotonic() - started:.1f} s")
        check(ask("a.dyn.lab:8080")[:2] == (200, "second"), f"{ask('a.dyn.lab:8080')}")
        Lab.server.is_dead = False
        state = lab.read_state()
        os.kill(state["processes"]["foil-agent"]["pid"], signal.SIGKILL)
        lab.reap(state["processes"]["foil-agent"]["pid"])
        Lab.server.zone["a.dyn.lab"] = [FIRST]
        until = time.monotonic() + 6  # beyond its time to live
        while time.monotonic() < until:
            check(ask("a.dyn.lab:8080")[:2] == (200, "second"), f"{ask('a.dyn.lab:8080')}")
            time.sleep(0.1)
        waits = []
        asker = threading.Thread(target=lambda: waits.append(ask("b.dyn.lab:8080", timeout_s=20)))
        asker.start()
        time.sleep(0.5)
        lab.start_agent(state)  # who waits is served when it is back
        asker.join(20)
        check(waits and waits[0][:2] in ((200, "second"), (503, None)), f"{waits}")
        wait_for(lambda: ask("b.dyn.lab:8080")[:2] == (200, "second"), 15, lambda: f"{ask('b.dyn.lab:8080')}")
        wait_for(lambda: ask("a.dyn.lab:8080")[:2] == (200, "first"), 15, lambda: f"{ask('a.dyn.lab:8080')}")
