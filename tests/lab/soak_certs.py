#!/usr/bin/env python3
"""Mutual TLS for a long time with certificates of a minute: the mesh's identities, the clients' and the workload's are renewed twice a minute, and the root
changes once, at half of the time, under load. Root; brings its own lab with test_mtls.py's configuration, whose tests are the short form of this.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/soak_certs.py [SECONDS] [--ttl 60] [--pause 0.03] [--keep-first]

A line every 20 s, exit status 1 when a request failed or memory grew. --pause: between two requests of each of the three kinds that open a connection.
--keep-first: the client goes on with its first certificate, of a day and under the first root; it must fail once the authority has let that root go (two
minutes and a certificate's life after the new one signs)."""
import argparse
import http.client
import json
import os
import re
import ssl
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import support  # noqa: E402
import test_mtls as mesh  # noqa: E402
from foilrun import lab  # noqa: E402

REPORT_S, WARM_S, OVERLAP_S = 20, 60, 30
PATIENCE_S = 60  # of a client: on a machine under load this test looks for failures, not for delays
GROWTH_KB_MAX = 2048  # of resident memory, after the first minute
POOLS = {"mbufs": "foil_core_mbufs_free", "chunks": "foil_core_chunks_free", "tcp": "foil_tcp_conns", "tls": "foil_tls_conns"}
CA_CONFIG = """[ca]
default_ca = d
[d]
database = index.txt
new_certs_dir = .
default_md = sha256
policy = p
unique_subject = no
rand_serial = yes
email_in_dn = no
[p]
commonName = optional
"""


class Peers:
    """The client's and the workload's certificates, renewed as a proxy beside them would: from the authority as it is on disk now."""

    def __init__(self, ttl_s, keep_first):
        self.ttl_s, self.keep_first, self.n = ttl_s, keep_first, 0
        with open(f"{mesh.STATE['folder']}/ca.cnf", "w") as f:
            f.write(CA_CONFIG)
        self.renew()

    def leaf(self, name, uri, life_s):
        mark = f"{name}-{self.n}"
        with open(f"{mesh.STATE['folder']}/{mark}.ext", "w") as f:
            f.write(f"basicConstraints=critical,CA:FALSE\nsubjectAltName=URI:{uri}\n")
        open(f"{mesh.STATE['folder']}/index.txt", "w").close()
        mesh.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{mark}.key", "-out", f"{mark}.csr", "-subj",
                     f"/CN={name}")
        now = time.time()
        mesh.openssl("ca", "-batch", "-config", "ca.cnf", "-in", f"{mark}.csr", "-out", f"{mark}.crt", "-notext", "-cert", "ca/ca-cert.pem",
                     "-keyfile", "ca/ca-key.pem", "-extfile", f"{mark}.ext", "-startdate", stamp(now - 120), "-enddate", stamp(now + life_s))
        return mark

    def renew(self):
        client = self.leaf("client", mesh.CLIENT_ID, 86400 if self.keep_first else self.ttl_s)
        shop = self.leaf("shop", mesh.SHOP_ID, self.ttl_s)
        if not self.n or not self.keep_first:
            self.client, self.gateway = mesh.context(client), mesh.context(client, alpn=("http/1.1",))
            self.first = client
        else:  # who it trusts is new all the same
            self.client, self.gateway = mesh.context(self.first), mesh.context(self.first, alpn=("http/1.1",))
        self.shop = mesh.context(shop, True, ("h2", "http/1.1"))
        for mark in {client, shop, self.first} - {self.first if self.keep_first else None}:
            for end in ("key", "crt", "csr", "ext"):
                path = f"{mesh.STATE['folder']}/{mark}.{end}"
                if os.path.exists(path):
                    os.unlink(path)
        self.n += 1


def stamp(t):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t))


class Workload(support.Origin):
    """Speaks mTLS with the certificate of the hour; ends each connection, so that every request is a handshake."""

    def __init__(self, peers):
        self.peers = peers
        super().__init__("198.19.0.20", "tls")
        self.headers = {"Connection": "close"}

    def serve(self, s, peer):
        try:
            t = self.peers.shop.wrap_socket(s, server_side=True)
        except (OSError, ssl.SSLError) as e:
            LOAD.failed("workload", e)
            s.close()
            return
        super().serve(t, peer)
        del self.seen[:-8]


class Load:
    def __init__(self):
        self.n, self.failures, self.over, self.lock = {}, [], threading.Event(), threading.Lock()

    def failed(self, what, why):
        with self.lock:
            self.failures.append((time.time(), what, repr(why)))

    def loop(self, what, once, pause_s):
        while not self.over.is_set():
            try:
                status = once()
                if status != 200:
                    self.failed(what, status)
            except (OSError, http.client.HTTPException) as e:
                self.failed(what, e)
            with self.lock:
                self.n[what] = self.n.get(what, 0) + 1
            time.sleep(pause_s)


LOAD = Load()


def fresh(address, port, tls, host):
    s = mesh.connect(address, port, tls, host, PATIENCE_S)
    try:
        return mesh.ask(s, host)[0]
    finally:
        s.close()


def start_load(peers, pause_s):
    kept = [mesh.connect(mesh.VIP, 80, peers.client, None, PATIENCE_S) for _ in range(2)]
    works = [("new mTLS connection", lambda: fresh(mesh.VIP, 80, peers.client, "shop.app"), pause_s),
             ("new mTLS connection to the gateway", lambda: fresh(support.GATEWAY, 9443, peers.gateway, "mesh.test"), pause_s),
             ("mTLS towards the workload", lambda: support.ask("any.test", timeout_s=PATIENCE_S)[0], pause_s),
             *((f"kept connection {i}", lambda s=s: mesh.ask(s)[0], 1) for i, s in enumerate(kept))]
    threads = [threading.Thread(target=LOAD.loop, args=w, daemon=True) for w in works]
    for t in threads:
        t.start()
    return threads


def resident_kb():
    out = {}
    for name, pid in lab.status()["pids"].items():
        with open(f"/proc/{pid}/status") as f:
            out[name] = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
    return out


def pools():
    text = lab.get("/metrics", 15090)[1]
    return {name: sum(int(float(v)) for v in re.findall(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", text, re.M)) for name, metric in POOLS.items()}


def authority():
    return json.loads(lab.get("/ca")[1])


def report(started):
    a, kb = authority(), resident_kb()
    last = f"; last: {LOAD.failures[-1][1:]} at {LOAD.failures[-1][0] - started:.0f} s" if LOAD.failures else ""
    print(f"{time.time() - started:6.0f} s: {sum(LOAD.n.values())} requests, {len(LOAD.failures)} failed{last}; {a['issued']} certificates, {len(a['roots'])} "
          f"root{'s' if len(a['roots']) > 1 else ''}, {a['rotations']} rotations; KB {kb}, {pools()}", flush=True)
    return kb


def run(seconds, ttl_s, keep_first, pause_s):
    mesh.setup(ttl_s, OVERLAP_S)
    mesh.STATE["tls"].kill()
    peers = Peers(ttl_s, keep_first)
    Workload(peers)
    first_pools, started = pools(), time.time()
    threads, rotated, warm, renewed, told = start_load(peers, pause_s), False, None, started, started
    while time.time() < started + seconds:
        time.sleep(1)
        del mesh.STATE["plain"].seen[:]
        now = time.time()
        if now - renewed >= ttl_s / 4:
            peers.renew()
            renewed = now
        if not rotated and now - started >= seconds / 2:
            rotated = mesh.foilctl("ca", "rotate").returncode == 0
            peers.renew()
        if now - told >= REPORT_S:
            told, kb = now, report(started)
            if warm is None and now - started >= WARM_S:
                warm = kb
    LOAD.over.set()
    for t in threads:
        t.join(20)
    time.sleep(2)
    return finish(started, warm, first_pools, rotated)


def finish(started, warm, first_pools, rotated):
    kb, after, a = report(started), pools(), authority()
    grown = {name: kb[name] - (warm or kb)[name] for name in kb}
    print(f"by kind: {LOAD.n}\nresident memory grew by {grown} KB after the first minute; pools before {first_pools}, after {after}")
    for when, what, why in LOAD.failures[:10]:
        print(f"failed at {when - started:.1f} s: {what}: {why}")
    ok = rotated and a["rotations"] == 1 and not LOAD.failures and max(grown.values()) <= GROWTH_KB_MAX
    print("ok" if ok else "not ok")
    return 0 if ok else 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("seconds", nargs="?", type=int, default=600)
    p.add_argument("--ttl", type=int, default=60)
    p.add_argument("--pause", type=float, default=0.03)
    p.add_argument("--keep-first", action="store_true")
    args = p.parse_args()
    try:
        return run(args.seconds, args.ttl, args.keep_first, args.pause)
    finally:
        LOAD.over.set()
        lab.down(keep_quiet=True)


if __name__ == "__main__":
    sys.exit(main())
