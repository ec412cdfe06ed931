#!/usr/bin/env python3
"""Every test, scenario and fuzzer that docs/attacks.md names exists, and every reason that it names is in a .def file."""
import glob
import os
import re

import checklib

PAGE = "docs/attacks.md"


def words(pattern, *globs):
    found = set()
    for name in globs:
        for path in glob.glob(os.path.join(checklib.ROOT, name)):
            with open(path, encoding="utf-8") as f:
                found.update(re.findall(pattern, f.read(), re.M))
    return found


def check():
    tests = words(r"^(?:static void |def )(test_\w+)\(", "tests/unit/*/test_*.c", "tests/lab/test_*.py")
    scenarios = words(r'^\t\{"([\w-]+)", "', "tests/sim/*.c")
    fuzzers = {os.path.basename(p)[:-2] for p in glob.glob(os.path.join(checklib.ROOT, "tests/fuzz/fuzz_*.c"))}
    reasons = words(r'^X\(\w+, "(\w+)"', "dataplane/net/reasons.def", "dataplane/tcp/reasons.def", "dataplane/mesh/reasons.def")
    reasons |= {p.lower() for p in words(r"^X\((\w+),", "dataplane/net/probes.def", "dataplane/tcp/probes.def")}
    problems = []
    for number, line in enumerate(checklib.read(PAGE).splitlines(), 1):
        cells = [c.strip() for c in line.split(" | ")]
        if not line.startswith("| ") or len(cells) != 4 or cells[0] == "| attack":
            continue
        problems += [f"{PAGE}:{number}: no reason or probe {r}" for r in re.findall(r"`(\w+)`", cells[2]) if r not in reasons]
        known = tests | scenarios | fuzzers
        named = re.findall(r"`([\w-]+)`", cells[3])
        problems += [f"{PAGE}:{number}: no test, scenario or fuzzer {t}" for t in named if t not in known]
        if not named:
            problems.append(f"{PAGE}:{number}: an attack without a test")
    return problems


checklib.finish(check(), "attacks")
