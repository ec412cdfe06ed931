"""./foil bench micro: what each stage costs by itself (perf/micro), beside the last committed baseline.

The least of several runs counts: whatever else the machine does only adds. Cycles are of the time-stamp counter, so figures of another
processor say nothing about a change; they are shown, and judged only on the processor that the baseline names."""
import json
import os
import subprocess

from foilrun import build, ui

USAGE = "usage: ./foil bench micro [--runs N] [--json FILE] [--write] [net|flow|http|mesh|request|tls...]"
ROOMS = ("net", "flow", "http", "mesh", "request", "tls")
BASELINE = os.path.join(ui.ROOT, "perf", "micro", "baseline.json")
SLOWER_FACTOR, SLOWER_CYCLES = 1.5, 20  # a neighbour on the same physical core costs nearly as much


def options(argv):
    chosen = {"runs": 3, "json": None, "write": False, "rooms": []}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ROOMS:
            chosen["rooms"].append(word)
        elif word == "--write":
            chosen["write"] = True
        elif word == "--runs" and rest and rest[0].isdigit() and 0 < int(rest[0]) <= 100:
            chosen["runs"] = int(rest.pop(0))
        elif word == "--json" and rest:
            chosen["json"] = rest.pop(0)
        else:
            raise ui.Failed(USAGE)
    return chosen


def processor():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")


def run_once(rooms):
    program = os.path.join(build.folder("release"), "perf", "foil-micro")
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(["taskset", "-c", str(core), program, *rooms], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise ui.Failed(f"foil-micro ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def read_baseline():
    try:
        with open(BASELINE) as f:
            return json.load(f)
    except FileNotFoundError:
        return {"processor": None, "cycles": {}}


def show(figures, baseline, is_judged):
    slower = []
    ui.say(f"\n   {'cycles each':26} {'now':>10} {'baseline':>10} {'ratio':>7}")
    for name, now in figures.items():
        before = baseline["cycles"].get(name)
        if before is None:
            ui.say(f"   {name:26} {now:10.0f} {'-':>10}")
            continue
        ui.say(f"   {name:26} {now:10.0f} {before:10.0f} {now / before:7.2f}")
        if is_judged and now > before * SLOWER_FACTOR + SLOWER_CYCLES:
            slower.append(name)
    return slower


def main(argv):
    chosen = options(argv)
    build.build("release", ["perf/foil-micro"])
    runs = [run_once(chosen["rooms"]) for _ in range(chosen["runs"])]
    figures = {name: min(r[name] for r in runs) for name in runs[0]}
    baseline = read_baseline()
    is_judged = baseline["processor"] == processor()
    slower = show(figures, baseline, is_judged)
    if not is_judged and baseline["processor"]:
        ui.say(f"   the baseline is of another processor ({baseline['processor']}): not judged")
    result = {"processor": processor(), "cycles": figures}
    for path in filter(None, (chosen["json"], BASELINE if chosen["write"] else None)):
        with open(path, "w") as f:
            json.dump(dict(result, cycles={**baseline["cycles"], **figures}) if path == BASELINE and is_judged else result, f, indent=1)
            f.write("\n")
    if slower and not chosen["write"]:
        raise ui.Failed("slower than the baseline: " + ", ".join(slower))
    return 0
