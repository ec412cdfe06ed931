#!/usr/bin/env python3
"""What a handshake storm does to requests on connections that are open: their latency without it, beside it with handshakes on the worker, and with them on a
crypto thread. Root; brings its own lab, with test_handshakes.py's gateway.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/handshake_storm.py [SECONDS [HANDSHAKES_A_SECOND]]

The worker has the last core, the crypto thread, both generators and all else the first: with two cores the storm's clients, who pay as much for a handshake as its
server, slow the probe too. So the probe's own share is told beside: how late it sent."""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import test_handshakes as base  # noqa: E402
from foilrun import build, lab  # noqa: E402
from support import GATEWAY  # noqa: E402

LOAD = os.path.join(build.folder(os.environ.get("FOIL_BUILD", "release")), "perf", "foil-load")
PROBE_RATE, PROBE_CONNECTIONS = 400, 8


def load(name, seconds, *words):
    path = f"{base.STATE['folder']}/{name}.json"
    words = ["ip", "netns", "exec", lab.NAMESPACES["client"], LOAD, "--sockets", "--target", f"{GATEWAY}:443", "--host", "web.test", "--tls", "--body", "5", "--seconds", str(seconds), "--warm-up", "1", "--json", path, "--quiet", *words]
    return path, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(path, process):
    _, errors = process.communicate(timeout=120)
    if process.returncode:
        raise SystemExit(errors[-500:])
    with open(path) as f:
        return json.load(f)


def run(crypto_workers, rate, seconds):
    storm = load("storm", seconds + 2, "--work", "newconn", "--connections", "32", "--rate", str(rate)) if rate else None
    probe = finish(*load("probe", seconds, "--connections", str(PROBE_CONNECTIONS), "--rate", str(PROBE_RATE)))
    stormed = finish(*storm) if storm else None
    late, own = probe["latency_us"], probe["own_us"]
    n = f"{stormed['requests_per_second']:.0f} handshakes/s" if stormed else "no storm"
    print(f"crypto_workers {crypto_workers}, {n:22} p50 {late['p50']:6.0f}  p99 {late['p99']:6.0f}  p99.9 {late['p99.9']:6.0f} us"
          f"  (the generator's own p99 {own['p99']:.0f}; errors {({k: v for k, v in probe['errors'].items() if v} or 'none')})", flush=True)


def main(words):
    seconds, rate = int(words[0]) if words else 5, int(words[1]) if len(words) > 1 else 500
    try:
        for crypto_workers in (0, 1):
            base.STATE.clear()
            base.NODE = f"crypto_workers: {crypto_workers}\ntls: {{handshakes: 4096, handshakes_per_network: 4096}}\n"
            base.setup()
            for r in (0, rate, 0, rate):
                run(crypto_workers, r, seconds)
    finally:
        lab.down(keep_quiet=True)


if __name__ == "__main__":
    main(sys.argv[1:])
