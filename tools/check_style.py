#!/usr/bin/env python3
"""What style.md asks of every file and a machine can see: tabs, width, length, openings, no TODO, no path of somebody's machine."""
import os
import re

import checklib

COLUMNS_MAX = 160
LINES_MAX = 1000
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home/\w+|Users)/")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
TEXT = (".c", ".h", ".cc", ".def", ".py", ".sh", ".md", ".yaml", ".txt", ".proto", "meson.build", "foil", "run")
EXEMPT = ("tools/check_style.py",)


def check_c(name, text, problems):
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        problems.append(f"{name}: {len(lines)} lines; past {LINES_MAX} look for the seam")
    for number, line in enumerate(lines, 1):
        if len(line.expandtabs(8)) > COLUMNS_MAX:
            problems.append(f"{name}:{number}: {len(line.expandtabs(8))} columns, {COLUMNS_MAX} at most")
        if re.match(r" {4,}\S", line) and not line.lstrip().startswith("*"):
            problems.append(f"{name}:{number}: indented with spaces; tabs here")
    if name.endswith(".h") and "#pragma once" not in text:
        problems.append(f"{name}: no #pragma once")
    if not text.lstrip().startswith(("/*", "//")) and not name.endswith(".def"):
        problems.append(f"{name}:1: a file opens by saying what it is")


def check_any(name, text, problems):
    for number, line in enumerate(text.split("\n"), 1):
        if line.endswith((" ", "\t", "\r")):
            problems.append(f"{name}:{number}: white space at the end of the line")
        if MACHINE_PATH.search(line):
            problems.append(f"{name}:{number}: a path of somebody's machine")
        if UNFINISHED.search(line):
            problems.append(f"{name}:{number}: an unfinished note: do it, or write a decision or an issue")
    if text and not text.endswith("\n"):
        problems.append(f"{name}: no newline at the end")


def check():
    problems = []
    for name in checklib.tracked(*TEXT):
        if name in EXEMPT or name.startswith("tests/fuzz/corpus/") or os.path.islink(os.path.join(checklib.ROOT, name)):
            continue
        text = checklib.read(name)
        check_any(name, text, problems)
        if name.endswith((".c", ".h", ".cc")):
            check_c(name, text, problems)
    return problems


checklib.finish(check(), "style")
