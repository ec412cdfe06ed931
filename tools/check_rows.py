#!/usr/bin/env python3
"""docs/istio-rows.md against tests/lab: every row has a test that names it, and the page tells which. check_rows.py --write puts the names into the page."""
import ast
import os
import re
import sys

import checklib

PAGE = "docs/istio-rows.md"
IDS = re.compile(r"(?:VS|DR)-\d+(?: (?:VS|DR)-\d+)*")
ROW = re.compile(r"^\| ((?:VS|DR)-\d+) \| (.*) \| (.*?) ?\|$")


def named_rows(function):
    """Ids in strings that are nothing else, wherever in a test they stand: in a case, in a table of cases, or as the decorator's."""
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and IDS.fullmatch(node.value):
            yield from node.value.split()


def tests_by_row():
    """{row: [(file, test)]}. A table outside of tests (BAD, ...) belongs to every test of its file that names it."""
    found = {}
    for path in checklib.tracked(".py"):
        if not re.fullmatch(r"tests/lab/test_\w+\.py", path):
            continue
        tree = ast.parse(checklib.read(path))
        tables = {t.id: set(named_rows(n)) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        for function in (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")):
            rows = set(named_rows(function))
            for name in (n.id for n in ast.walk(function) if isinstance(n, ast.Name)):
                rows |= tables.get(name, set())
            for row in rows:
                found.setdefault(row, []).append((path, function.name))
    return found


def cell(tests):
    return ", ".join(f"`{os.path.basename(path)[5:-3]}`: {name[5:].replace('_', ' ')}" for path, name in sorted(tests))


def main():
    found, known, problems, lines = tests_by_row(), set(), [], []
    for number, line in enumerate(checklib.read(PAGE).splitlines(), 1):
        row = ROW.match(line)
        if row:
            known.add(row.group(1))
            wanted = f"| {row.group(1)} | {row.group(2)} | {cell(found.get(row.group(1), []))} |"
            if row.group(1) not in found:
                problems.append(f"{PAGE}:{number}: no lab test names {row.group(1)}")
            elif wanted != line and "--write" not in sys.argv:
                problems.append(f"{PAGE}:{number}: not as the tests say: run tools/check_rows.py --write")
            line = wanted
        lines.append(line)
    problems += [f"{path}: {name} names {row}, which {PAGE} does not have" for row in sorted(set(found) - known) for path, name in found[row]]
    if "--write" in sys.argv:
        with open(os.path.join(checklib.ROOT, PAGE), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
    return problems


checklib.finish(main(), "rows")
