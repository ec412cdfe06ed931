#!/usr/bin/env python3
"""Calls that a room may not make: tools/banned.txt. An allowance needs a reason, and one that nothing uses is a problem too."""
import fnmatch
import re

import checklib


def table():
    bans, allowed, problems = [], {}, []
    for number, line in enumerate(checklib.read("tools/banned.txt").splitlines(), 1):
        rule, _, why = line.split("#")[0].partition("--")
        words = rule.split()
        if not words:
            continue
        if words[0] == "ban":
            bans.append((words[1], words[2:]))
        elif words[0] == "allow" and why.strip():
            allowed.setdefault(words[1], set()).update(words[2:])
        else:
            problems.append(f"tools/banned.txt:{number}: ban PREFIX WORD..., or allow FILE WORD... -- why")
    return bans, allowed, problems


def check():
    bans, allowed, problems = table()
    for name in checklib.tracked(".c", ".h", ".cc"):
        words = {w for prefix, ws in bans for w in ws if prefix == "*" or name.startswith(prefix)}
        if name.startswith("tests/") or not words:
            words = {w for prefix, ws in bans if prefix == "*" for w in ws}
        excused = {w for pattern, ws in allowed.items() if fnmatch.fnmatch(name, pattern) for w in ws}
        text = checklib.code(checklib.read(name))
        for found in re.finditer(r"(?<![\w.>])(%s)\s*\(" % "|".join(sorted(map(re.escape, words))), text):
            if found.group(1) not in excused:
                line = text.count("\n", 0, found.start()) + 1
                problems.append(f"{name}:{line}: {found.group(1)}() is banned here; tools/banned.txt says where it may be")
    return problems


checklib.finish(check(), "banned calls")
