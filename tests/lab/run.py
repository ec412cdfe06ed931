#!/usr/bin/env python3
"""The lab tests: real Linux clients and origins around the data plane. Reports in TAP; run as root through ./foil test lab.

    run.py [WORD...]     only tests whose file or name has one of the words

A file test_*.py has functions test_*; each takes nothing and raises when it fails. WITH_LAB = True asks for the lab with
conf/examples/bookinfo-like (a copy of it, LAB.config) to be up; the others bring their own."""
import contextlib
import glob
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import shared  # noqa: E402
import support  # noqa: E402
from foilrun import build, lab  # noqa: E402

ORDER = ["test_routing", "test_foilctl", "test_resilience", "test_transfer", "test_wire", "test_survival", "test_bad_input", "test_demo"]


class Report:
    def __init__(self):
        self.n, self.n_failed = 0, 0

    def line(self, name, error=None, skip=None, took_s=0.0):
        self.n += 1
        self.n_failed += error is not None
        print(f"{'not ok' if error else 'ok'} {self.n} - {name}{' # SKIP ' + skip if skip else ''}", flush=True)
        for text in (error or "").rstrip().splitlines():
            print("# " + text, flush=True)
        if took_s > 5:
            print(f"# took {took_s:.0f} s", flush=True)


def modules():
    names = sorted(os.path.basename(p)[:-3] for p in glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "test_*.py")))
    return sorted(names, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))


def cases(module, words):
    found = [(name, fn) for name, fn in vars(module).items() if name.startswith("test_") and callable(fn)]
    return [(n, fn) for n, fn in found if not words or any(w in n or w in module.__name__ for w in words)]


def quietly_up(config, node=lab.DEFAULT_NODE):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = lab.up(config, node)
    return status, out.getvalue()


def run_case(report, module, name, fn):
    started = time.monotonic()
    try:
        fn()
        report.line(f"{module.__name__}: {name}", took_s=time.monotonic() - started)
    except support.Skip as e:
        report.line(f"{module.__name__}: {name}", skip=str(e))
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)
        place = next((f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where) if "test_" in t.filename), "")
        report.line(f"{module.__name__}: {name}", error=f"{place}: {type(e).__name__}: {e}", took_s=time.monotonic() - started)


def run_with_lab(report, with_lab, words):
    """All of these files on one lab, whose config folder is a copy that a test may edit and puts back."""
    folder = tempfile.mkdtemp(prefix="foil-lab-test-")
    try:
        config = shutil.copytree(lab.DEFAULT_CONFIG, folder + "/config")
        started = time.monotonic()
        os.environ["FOIL_AGENT_ARGS"] = "--dns-servers " + support.NAME_SERVER
        status, text = quietly_up(config)
        if status:
            report.line("the lab comes up with conf/examples/bookinfo-like", error=text)
            return
        report.line("the lab comes up with conf/examples/bookinfo-like", took_s=time.monotonic() - started)
        shared.begin(config)
        for module in with_lab:
            for name, fn in cases(module, words):
                shared.calm()
                run_case(report, module, name, fn)
        shared.end()
    finally:
        os.environ.pop("FOIL_AGENT_ARGS", None)
        lab.down(keep_quiet=True)
        shutil.rmtree(folder, ignore_errors=True)


def main(words):
    if os.geteuid() != 0:
        sys.exit("tests/lab: root is needed for network namespaces")
    report, everything = Report(), [importlib.import_module(n) for n in modules()]
    missing = [name for name in ("hydrofoil", "foil-agent", "foilctl") if not os.access(build.program(name, shared.BUILD), os.X_OK)]
    if missing:
        report.line("the lab", skip=f"not built: {', '.join(missing)}")
        print(f"1..{report.n}")
        return 0
    os.environ["FOIL_NO_BUILD"] = "1"
    chosen = [m for m in everything if cases(m, words)]
    with_lab = [m for m in chosen if getattr(m, "WITH_LAB", False)]
    try:
        if with_lab:
            run_with_lab(report, with_lab, words)
        for module in (m for m in chosen if m not in with_lab):
            for name, fn in cases(module, words):
                run_case(report, module, name, fn)
    finally:
        lab.down(keep_quiet=True)
    print(f"1..{report.n}", flush=True)
    return 1 if report.n_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
