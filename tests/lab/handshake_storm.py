#!/usr/bin/env python3
"""What a handshake storm does to requests on connections that are open: without it, beside it with handshakes on the worker, and with them on a crypto thread.
Root; brings its own lab, with test_handshakes.py's gateway.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/handshake_storm.py [SECONDS [HANDSHAKES_A_SECOND [ROUNDS]]]

The worker has the last core and polls; the crypto thread, both generators and all else have the first. The probe, an open loop, polls too; the storm's clients
sleep until their next handshake is due and yield to it (nice 19). Two cores are too few for four: whenever the storm's client or the crypto thread has the first
one the probe is late by itself, whatever Hydrofoil does. So, as in the bench, there are two figures: of all requests, and of those ("clear") during which the probe
had its core from when they were due to their answer, and the share of these. A handshake on the worker is seen in both: the probe has its core meanwhile.

And the worker's own clock, which nothing of that touches: how many of its turns in a second were long, for a packet that comes waits until the turn is over."""
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


def load(name, seconds, *words, prefix=()):
    path = f"{base.STATE['folder']}/{name}.json"
    words = ["ip", "netns", "exec", lab.NAMESPACES["client"], "taskset", "-c", str(min(os.sched_getaffinity(0))), *prefix, LOAD, "--sockets", "--target", f"{GATEWAY}:443", "--host", "web.test", "--tls", "--body", "5", "--seconds", str(seconds), "--warm-up", "1", "--json", path, "--quiet", *words]
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
    storm = load("storm", seconds + 2, "--work", "newconn", "--connections", "32", "--rate", str(rate), "--idle", "pause", prefix=("nice", "-n", "19")) if rate else None
    path, process = load("probe", seconds, "--connections", str(PROBE_CONNECTIONS), "--rate", str(PROBE_RATE))
    time.sleep(1.5)  # its warm-up
    began, before = time.monotonic(), turns()
    time.sleep(max(seconds - 1, 1))
    after, took = turns(), time.monotonic() - began
    probe = finish(path, process)
    stormed = finish(*storm) if storm else None
    late, own, clear = probe["latency_us"], probe["own_us"], probe["clear_us"]
    n = f"{stormed['requests_per_second']:.0f} handshakes/s" if stormed else "no storm"
    print(f"crypto_workers {crypto_workers}, {n:16} p50 {late['p50']:6.0f}  p99 {late['p99']:6.0f}  p99.9 {late['p99.9']:6.0f} us; clear, {100 * probe['clear_share']:.1f} %:"
          f" p50 {clear['p50']:6.0f}  p99 {clear['p99']:6.0f}  p99.9 {clear['p99.9']:6.0f} us"
          f"  (the generator's own p99 {own['p99']:.0f}; errors {({k: v for k, v in probe['errors'].items() if v} or 'none')})")
    print("    turns a second: " + f"{(after[0] - before[0]) / took:.0f}" + "".join(
        f"; over {us} us {(a - b) / took:.1f}" for us, a, b in zip(OVER_US, after[1:], before[1:])), flush=True)


def main(words):
    seconds, rate, rounds = (int(words[i]) if len(words) > i else default for i, default in enumerate((5, 100, 2)))
    try:
        for crypto_workers in (0, 1):
            base.STATE.clear()
            base.NODE = f"crypto_workers: {crypto_workers}\ntls: {{handshakes: 4096, handshakes_per_network: 4096}}\n"
            base.IDLE = "poll"
            base.setup()
            for r in (0, rate) * rounds:
                run(crypto_workers, r, seconds)
    finally:
        lab.down(keep_quiet=True)


if __name__ == "__main__":
    main(sys.argv[1:])
