"""./foil test, fuzz and sim: runs the layers and counts every test case. The last line is "N passed, N failed"."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from foilrun import build, ui

LAYERS = ["checks", "unit", "sim", "replay", "fuzz", "lab"]
EXTRA = ["judge", "exam"]  # need ../shared beside the clone; asked for by name
FUZZ_SHORT_S = 5
PROBE_SEEDS = 40  # of each scenario: a minute
LAB_LIMIT_S, JUDGE_LIMIT_S, EXAM_LIMIT_S = 900, 420, 240
# those that pass, and must; the others ask for what is not there yet (docs/architecture.md)
JUDGE_SCENARIOS = ("plain match headers redirect-rewrite timeouts retries circuit-breaker outlier upstream-faults tcp addresses consistent-hash "
                   "fault grpc mirror paths paths-none paths-decode-and-merge-slashes sni-passthrough").split()
TAP_LINE = re.compile(r"^\s*(not )?ok\b(?:\s+\d+)?(?:\s*-)?\s*(.*)$")
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


class Tally:
    """What passed, failed and was skipped, with the names of what did not pass."""

    def __init__(self):
        self.n_passed, self.failed, self.skipped = 0, [], []

    def add(self, name, is_ok, skip_reason=None):
        if skip_reason is not None:
            self.skipped.append(f"{name}: {skip_reason}")
        elif is_ok:
            self.n_passed += 1
        else:
            self.failed.append(name)

    def add_tap(self, name, text, is_done_ok):
        """Each line of a TAP report is a test case; a program that ends badly after its last line is one more failure."""
        n_bad = n_lines = 0
        for line in text.splitlines():
            found = TAP_LINE.match(line)
            if not found or line.lstrip().startswith("#"):
                continue
            case, _, directive = found.group(2).partition("# ")
            skip = directive[4:].strip() if directive.upper().startswith("SKIP") else None
            n_lines += 1
            n_bad += bool(found.group(1)) and skip is None
            self.add(f"{name}: {case.strip()}", not found.group(1), skip)
        if not is_done_ok and n_bad == 0:
            self.add(f"{name}: ended badly", False)
        elif n_lines == 0:
            self.add(name, is_done_ok)


def run_checks(tally):
    build.build("release")
    for path in sorted(glob.glob(os.path.join(ui.ROOT, "tools", "check_*.py"))):
        name = os.path.basename(path)[:-3]
        status = ui.step(name.replace("_", " "), [sys.executable, path, "--build", build.folder("release")], name, "", timeout_s=300, check=False)
        if status:
            ui.say(ui.tail(os.path.join(ui.LOGS, name + ".log"), 40))
        tally.add(name, status == 0)


def meson_suite(tally, suite, kind):
    folder = build.folder(kind)
    results = os.path.join(folder, "meson-logs", "testlog.json")
    if os.path.exists(results):
        os.unlink(results)
    env = dict(os.environ, **SANITIZERS, MESON_TESTTHREADS=str(os.cpu_count() or 1))
    ui.step(f"{suite} tests, {kind} build",
            ["meson", "test", "-C", folder, "--no-rebuild", "--suite", suite, "--timeout-multiplier", "10" if kind == "asan" else "5"],
            f"test-{suite}-{kind}", "", timeout_s=600, check=False, env=env)
    tests = []
    if os.path.exists(results):
        with open(results) as f:
            tests = [json.loads(line) for line in f if line.strip()]
    if not tests:
        ui.say(f"  no {suite} test ran: the build has none, or meson failed (.foil/logs/test-{suite}-{kind}.log)")
        tally.add(f"{suite}/{kind}: no test ran", False)
    for test in tests:
        is_ok = test["result"] in ("OK", "EXPECTEDFAIL")
        name = f"{kind} {test['name']}"
        if test["result"] == "SKIP":
            tally.add(name, True, "the program says that it cannot run here")
            continue
        tally.add_tap(name, test.get("stdout", ""), is_ok)
        if not is_ok:
            output = (test.get("stdout", "") + test.get("stderr", "")).splitlines()
            ui.say(f"---- {name}: {test['result']}\n" + "\n".join(output[-40:]) + "\n----")


def run_suite(tally, suite):
    for kind in ("release", "asan"):
        build.build(kind)
        meson_suite(tally, suite, kind)


def sim_probes(tally):
    """Was each rare path reached by some seed? Only a build with checks counts them."""
    build.build("debug", ["tests/sim/foil-sim"])
    program = os.path.join(build.folder("debug"), "tests", "sim", "foil-sim")
    status = ui.step("rare paths, debug build", [program, "--tap", "--probes", "--seed", "1", "--count", str(PROBE_SEEDS)], "sim-probes", "", timeout_s=900,
                     check=False)
    with open(os.path.join(ui.LOGS, "sim-probes.log"), errors="replace") as f:
        tally.add_tap("debug sim-probes", f.read(), status == 0)


def fuzz(tally, seconds, only=()):
    build.build("fuzz", ["fuzzers"])
    programs = sorted(p for p in glob.glob(os.path.join(build.folder("fuzz"), "tests", "fuzz", "fuzz_*")) if os.access(p, os.X_OK) and os.path.isfile(p))
    programs = [p for p in programs if not only or os.path.basename(p)[5:] in only]
    if not programs:
        ui.say("  no fuzzer was built")
        tally.add("fuzz: no fuzzer was built", False)
    crashes = os.path.join(ui.ROOT, ".foil", "crashes", "")
    os.makedirs(crashes, exist_ok=True)
    for program in programs:
        name = os.path.basename(program)
        corpus = os.path.join(ui.ROOT, "tests", "fuzz", "corpus", name[5:])
        with tempfile.TemporaryDirectory(prefix="foil-fuzz-") as fresh:
            command = [program, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2560", "-print_final_stats=1",
                       f"-artifact_prefix={crashes}{name}-", fresh] + ([corpus] if os.path.isdir(corpus) else [])
            status = ui.step(f"{name}, {seconds} s", command, name, "", timeout_s=seconds + 120, check=False, env=dict(os.environ, **SANITIZERS))
        if status:
            ui.say(ui.tail(os.path.join(ui.LOGS, name + ".log"), 40))
            ui.say(f"  the input is in {crashes}; again: {program} FILE")
        tally.add(name, status == 0)


def stream(tally, command, name, limit_s):
    """Runs a long layer and shows its lines as they come. (its output, its status); ended with all it started when the time is over."""
    ui.need_root("test")
    ui.say(f"  {name}:")
    env = dict(os.environ, PYTHONPATH=os.path.join(ui.ROOT, "tools"), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    p = subprocess.Popen(command, cwd=ui.ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         errors="replace", start_new_session=True)
    late = threading.Event()
    timer = threading.Timer(limit_s, lambda: (late.set(), ui.kill_group(p)))
    timer.daemon = True
    timer.start()
    text = []
    try:
        for line in p.stdout:
            text.append(line)
            ui.say("    " + line.rstrip())
        p.wait()
    finally:
        timer.cancel()
        if p.poll() is None:
            ui.kill_group(p)
    if late.is_set():
        tally.add(f"{name}: not done after {limit_s} s", False)
    return "".join(text), p.returncode


def lab_layer(tally):
    build.build("release")
    meson_suite(tally, "lab", "release")
    text, status = stream(tally, [sys.executable, os.path.join(ui.ROOT, "tests", "lab", "run.py")], "lab tests", LAB_LIMIT_S)
    tally.add_tap("lab", text, status == 0)


def judge_layer(tally):
    """Behaviour recorded from a real Envoy: each check that passed counts, each that failed is named."""
    path = os.path.join(ui.ROOT, "..", "shared", "judge", "judge.py")
    if not os.path.exists(path):
        raise ui.Failed("there is no ../shared/judge beside this clone")
    build.build("release", build.PROGRAMS)
    text, _ = stream(tally, [sys.executable, path, *JUDGE_SCENARIOS], "judge", JUDGE_LIMIT_S)
    found = re.findall(r"^(\d+) passed, (\d+) failed", text, re.M)
    if not found:
        return tally.add("judge: it did not finish", False)
    tally.n_passed += int(found[-1][0])
    named = [line[5:] for line in text.splitlines() if re.match(r"FAIL .*#\d+ .*: expected ", line)]
    named += [f"a check that has no line of its own, {i + 1}" for i in range(int(found[-1][1]) - len(named))]
    tally.failed += [f"judge: {name}" for name in named]


def exam_layer(tally):
    """Raw HTTP/1.1 that strangers wrote: every "must", and nothing that a backend could read in two ways."""
    folder = os.path.join(ui.ROOT, "..", "shared", "exams")
    if not os.path.exists(folder + "/run_raw_h1.py"):
        raise ui.Failed("there is no ../shared/exams beside this clone")
    build.build("release", build.PROGRAMS)
    foil = os.path.join(ui.ROOT, "foil")
    if subprocess.run([foil, "lab", "up", "--config", folder + "/one-backend"], stdin=subprocess.DEVNULL).returncode:
        return tally.add("exam: the lab does not come up with its configuration", False)
    try:
        text, _ = stream(tally, [sys.executable, folder + "/run_raw_h1.py", "198.18.0.1", "80", "--backend", "198.19.0.10:8080", "--connect-ns",
                                 "foil-client", "--backend-ns", "foil-backends", "--wait", "0.5", "--name", "hydrofoil"], "raw HTTP/1.1", EXAM_LIMIT_S)
    finally:
        subprocess.run([foil, "lab", "down"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found = re.search(r"must (\d+)/(\d+) .*smuggled (\d+) ambiguous (\d+)", text)
    if not found:
        return tally.add("exam: it did not finish", False)
    n_ok, n_all, n_smuggled, n_ambiguous = map(int, found.groups())
    tally.n_passed += n_ok
    named = [line.strip() for line in text.splitlines() if line.lstrip().startswith("must ")]
    tally.failed += [f"exam: {name}" for name in (named + ["a case"] * n_all)[:n_all - n_ok]]
    tally.add("exam: nothing smuggled", n_smuggled == 0)
    tally.add("exam: nothing ambiguous", n_ambiguous == 0)


def finish(tally, started):
    for text in tally.skipped:
        ui.say(f"skipped: {text}")
    for name in tally.failed:
        ui.say(f"FAILED: {name}")
    ui.say(f"{time.monotonic() - started:.0f} s, {len(tally.skipped)} skipped; logs in .foil/logs")
    ui.say(f"{tally.n_passed} passed, {len(tally.failed)} failed")
    return 0 if tally.n_passed and not tally.failed else 1


def run_layer(tally, layer):
    ui.say(f"{layer}:")
    try:
        if layer == "checks":
            run_checks(tally)
        elif layer == "fuzz":
            fuzz(tally, FUZZ_SHORT_S)
        elif layer == "lab":
            lab_layer(tally)
        elif layer == "judge":
            judge_layer(tally)
        elif layer == "exam":
            exam_layer(tally)
        else:
            run_suite(tally, layer)
        if layer == "sim":
            sim_probes(tally)
    except ui.Failed as e:
        ui.say(f"  {e}")
        tally.add(f"{layer}: {str(e).splitlines()[0]}", False)


def main(argv):
    for layer in argv:
        if layer not in LAYERS + EXTRA:
            raise ui.Failed(f"no layer \"{layer}\": {', '.join(LAYERS + EXTRA)}")
    started, tally = time.monotonic(), Tally()
    for layer in argv or LAYERS:
        run_layer(tally, layer)
    return finish(tally, started)


def fuzz_main(argv):
    seconds, only = 60, list(argv)
    if only[:1] == ["--seconds"] and len(only) > 1 and only[1].isdigit():
        seconds, only = int(only[1]), only[2:]
    started, tally = time.monotonic(), Tally()
    fuzz(tally, seconds, [name.removeprefix("fuzz_") for name in only])
    return finish(tally, started)


def sim_main(argv):
    """The simulator itself, so that a failure's command can be typed again: ./foil sim --seed 0x5eed NAME."""
    build.build("debug")
    found = [p for p in glob.glob(os.path.join(build.folder("debug"), "tests", "sim", "*")) if os.access(p, os.X_OK) and os.path.isfile(p)]
    if not found:
        raise ui.Failed("the build made no simulator (tests/sim)")
    program = next((p for p in found if os.path.basename(p) in ("foil-sim", "sim")), sorted(found)[0])
    return subprocess.run([program, *argv]).returncode
