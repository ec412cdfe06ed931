#!/usr/bin/env python3
"""What a handshake storm does to requests on connections that are open: without it, beside it with handshakes on the worker, and with them on a crypto thread.
Root; brings its own lab, with test_handshakes.py's gateway.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/handshake_storm.py [SECONDS [HANDSHAKES_A_SECOND [PAIRS]]]

The worker has the last core and polls; the crypto thread, both generators and all else have the first. The probe, an open loop, polls too; the storm's clients
sleep until their next handshake is due and yield to it (nice 5). Two cores are too few for four: whenever the storm's client or the crypto thread has the first
one the probe is late by itself, whatever Hydrofoil does. So, as in the bench, there are two figures: of all requests, and of those ("clear") during which the probe
had its core from when they were due to their answer, and the share of these. A handshake on the worker is seen in both: the probe has its core meanwhile.

And the worker's own clock: how many of its turns in a second were long, for a packet that comes waits until the turn is over.

A host that has other guests, or other programs here, makes long turns and late answers, too, now more, now less. So there are many short turns, without and
with the storm by turns. One in which the worker waited for its core, or the storm found none, is taken again, and the best of TRIES counts. What is said in the
end is the middle of what each pair differs by, with the quarters around it: long turns for each handshake, which should be about one where the worker does the
arithmetic and about none where the crypto thread does; and how long the worker waited in the middle turn, for beyond some hundredths nothing of it says much."""
import json
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import test_handshakes as base  # noqa: E402
from foilrun import bench_peers, build, lab  # noqa: E402
from support import GATEWAY  # noqa: E402

LOAD = os.path.join(build.folder(os.environ.get("FOIL_BUILD", "release")), "perf", "foil-load")
PROBE_RATE, PROBE_CONNECTIONS = 400, 8
OVER_US = (100, 250, 500, 1000, 2500, 5000)
TRIES, WAITED_MAX = 3, 0.03  # of a turn's time


def load(name, seconds, *words, prefix=()):
    path = f"{base.STATE['folder']}/{name}.json"
    words = ["ip", "netns", "exec", lab.NAMESPACES["client"], "taskset", "-c", str(min(os.sched_getaffinity(0))), *prefix, LOAD, "--sockets", "--target", f"{GATEWAY}:443", "--host", "web.test", "--tls", "--body", "5", "--seconds", str(seconds), "--warm-up", "0.4", "--json", path, "--quiet", *words]
    return path, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(path, process):
    _, errors = process.communicate(timeout=120)
    if process.returncode:
        raise SystemExit(errors[-500:])
    with open(path) as f:
        return json.load(f)


def turns():
    """Busy turns of the worker over each length."""
    page = lab.get("/metrics", 15090)[1]

    def value(name):
        return sum(float(v) for v in re.findall(rf"^foil_core_{name}_total(?:{{[^}}]*}})? (\S+)$", page, re.M))

    return [value(f"turns_over_{us}_us") for us in OVER_US]


def waited():
    return bench_peers.waited_seconds([lab.status()["pids"]["hydrofoil"]], "rte-worker")


def run(rate, seconds):
    """One turn: (long turns of the worker a second by length, handshakes a second, the probe's figures, the share of the time that the worker waited)."""
    storm = load("storm", seconds + 1.5, "--work", "newconn", "--connections", "32", "--rate", str(rate), "--idle", "pause", prefix=("nice", "-n", "5")) if rate else None
    path, process = load("probe", seconds, "--connections", str(PROBE_CONNECTIONS), "--rate", str(PROBE_RATE))
    at = {line.split()[1]: (time.monotonic(), turns(), waited()) for line in process.stdout if line.startswith("measure ")}
    probe = finish(path, process)
    stormed = finish(*storm)["requests_per_second"] if storm else 0
    took = at["end"][0] - at["begin"][0]
    return [(b - a) / took for a, b in zip(at["begin"][1], at["end"][1])], stormed, probe, (at["end"][2] - at["begin"][2]) / took


def run_whole(rate, seconds):
    """run(), as often as it takes for the machine to leave the worker and the storm their cores."""
    best = None
    for _ in range(TRIES):
        turn = run(rate, seconds)
        if not best or (turn[1] >= rate / 2, -turn[3]) > (best[1] >= rate / 2, -best[3]):
            best = turn
        if best[1] >= rate / 2 and best[3] <= WAITED_MAX:
            break
    return best


def say(longs, stormed, probe, share):
    late, clear = probe["latency_us"], probe["clear_us"]
    print(f"  {f'{stormed:.0f} handshakes/s' if stormed else 'no storm':16} p50 {late['p50']:6.0f}  p99 {late['p99']:6.0f} us; clear, {100 * probe['clear_share']:.1f} %: p50 {clear['p50']:6.0f}"
          f"  p99 {clear['p99']:6.0f} us; waited {100 * share:.0f} %; turns a second" + "".join(f" >{us} us {n:.1f}" for us, n in zip(OVER_US, longs)) +
          "".join(f"; {v} {k} errors" for k, v in probe["errors"].items() if v), flush=True)


def middle(values):
    """The middle, and the quarters around it."""
    low, mid, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{mid:.2f} ({low:.2f} to {high:.2f})"


def summary(crypto_workers, pairs):
    pairs = [(calm, storm) for calm, storm in pairs if storm[1] > 0]
    if not pairs:
        print(f"crypto_workers {crypto_workers}: the machine left the storm no core")
        return
    print(f"crypto_workers {crypto_workers}, {len(pairs)} pairs; for each handshake, turns" + ";".join(
        f" >{us} us {middle([(storm[0][i] - calm[0][i]) / storm[1] for calm, storm in pairs])}" for i, us in enumerate(OVER_US)))
    print(f"  the worker waited {100 * statistics.median(turn[3] for pair in pairs for turn in pair):.0f} % of the middle turn")
    for key, name in (("latency_us", "of all"), ("clear_us", "of those that are clear")):
        calm, storm = ([turn[2][key]["p99"] for turn in which] for which in zip(*pairs))
        print(f"  p99 {name}: {middle(calm)} us without the storm, {middle(storm)} us with it, {middle([b - a for a, b in zip(calm, storm)])} us between", flush=True)


def main(words):
    seconds, rate, rounds = (int(words[i]) if len(words) > i else default for i, default in enumerate((1, 100, 8)))
    try:
        for crypto_workers in (0, 1):
            base.STATE.clear()
            base.NODE = f"crypto_workers: {crypto_workers}\ntls: {{handshakes: 4096, handshakes_per_network: 4096}}\n"
            base.IDLE = "poll"
            base.setup()
            pairs = []
            for i in range(rounds):
                pair = {r: run_whole(r, seconds) for r in ((0, rate) if i % 2 else (rate, 0))}
                for r in (0, rate):
                    say(*pair[r])
                pairs.append((pair[0], pair[rate]))
            summary(crypto_workers, pairs)
    finally:
        lab.down(keep_quiet=True)


if __name__ == "__main__":
    main(sys.argv[1:])
