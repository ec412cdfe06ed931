#!/usr/bin/env python3
"""What a handshake storm does to requests on connections that are open: without it, beside it with handshakes on the worker, and with them on a crypto thread.
Root; brings its own lab, with test_handshakes.py's gateway.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/handshake_storm.py [SECONDS [HANDSHAKES_A_SECOND]]

Two ways to see it. The probe's latency: the worker has the last core, the crypto thread, both generators and all else the first, so with two cores the storm's
clients, who pay as much for a handshake as its server, slow the probe too, and its own share is told beside (how late it sent). And the worker's own clock, which
all that does not touch: how many of its turns in a second were long, for a packet that comes waits until the turn is over."""
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import test_handshakes as base  # noqa: E402
from foilrun import build, lab  # noqa: E402
from support import GATEWAY  # noqa: E402

LOAD = os.path.join(build.folder(os.environ.get("FOIL_BUILD", "release")), "perf", "foil-load")
PROBE_RATE, PROBE_CONNECTIONS = 400, 8
OVER_US = (100, 250, 500, 1000, 2500, 5000)


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


def turns():
    """Busy turns of the worker, and those over each length."""
    page = lab.get("/metrics", 15090)[1]

    def value(name):
        return sum(float(v) for v in re.findall(rf"^foil_core_{name}_total(?:{{[^}}]*}})? (\S+)$", page, re.M))

    return [value("loops") - value("idle_loops")] + [value(f"turns_over_{us}_us") for us in OVER_US]


def run(crypto_workers, rate, seconds):
    storm = load("storm", seconds + 2, "--work", "newconn", "--connections", "32", "--rate", str(rate)) if rate else None
    path, process = load("probe", seconds, "--connections", str(PROBE_CONNECTIONS), "--rate", str(PROBE_RATE))
    time.sleep(1.5)  # its warm-up
    began, before = time.monotonic(), turns()
    time.sleep(max(seconds - 1, 1))
    after, took = turns(), time.monotonic() - began
    probe = finish(path, process)
    stormed = finish(*storm) if storm else None
    late, own = probe["latency_us"], probe["own_us"]
    n = f"{stormed['requests_per_second']:.0f} handshakes/s" if stormed else "no storm"
    print(f"crypto_workers {crypto_workers}, {n:16} p50 {late['p50']:6.0f}  p99 {late['p99']:6.0f}  p99.9 {late['p99.9']:6.0f} us"
          f"  (the generator's own p99 {own['p99']:.0f}; errors {({k: v for k, v in probe['errors'].items() if v} or 'none')})")
    print("    turns a second: " + f"{(after[0] - before[0]) / took:.0f}" + "".join(
        f"; over {us} us {(a - b) / took:.1f}" for us, a, b in zip(OVER_US, after[1:], before[1:])), flush=True)


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
