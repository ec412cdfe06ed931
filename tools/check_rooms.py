#!/usr/bin/env python3
"""Every #include against tools/rooms.txt: a room includes itself and what its line names, nothing else."""
import re

import checklib

INCLUDE = re.compile(r"^\s*#\s*include\s+\"([^\"]+)\"", re.M)


def rooms():
    """room -> set of rooms it may include; None for everything. "core" in the file means dataplane/core."""
    table = {}
    for line in checklib.read("tools/rooms.txt").splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        table[words[0]] = None if words[1:] == ["*"] else {w for w in words[1:] if w != "-"}
    for room, allowed in table.items():
        if allowed is not None:
            table[room] = {w if w in table else "dataplane/" + w for w in allowed}
            for w in table[room]:
                assert w in table, f"tools/rooms.txt: {room} names {w}, which is no room"
    return table


def room_of(name, table):
    return max((r for r in table if name.startswith(r + "/")), key=len, default=None)


def check():
    table, problems = rooms(), []
    names = checklib.tracked(".c", ".h", ".cc", ".def")
    for name in names:
        room = room_of(name, table)
        if room is None:
            problems.append(f"{name}: in no room of tools/rooms.txt")
            continue
        text = checklib.code(checklib.read(name), keep_strings=True)
        for found in INCLUDE.finditer(text):
            target, line = found.group(1), text.count("\n", 0, found.start()) + 1
            if target.endswith(".pb-c.h"):
                target_room = "conf/proto"
            elif "/" not in target:
                problems.append(f"{name}:{line}: \"{target}\": own headers are included by their path from the root")
                continue
            else:
                target_room = room_of(target, table)
            if target_room is None:
                problems.append(f"{name}:{line}: \"{target}\" is in no room")
            elif target_room != room and table[room] is not None and target_room not in table[room]:
                problems.append(f"{name}:{line}: {room} may not include {target} ({target_room}); tools/rooms.txt has the arrows")
            if target.endswith("_priv.h") and target_room != room and room not in ("tests", "perf"):
                problems.append(f"{name}:{line}: {target} is private to {target_room}")
    return problems


checklib.finish(check(), "rooms")
