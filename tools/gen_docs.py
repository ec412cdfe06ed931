#!/usr/bin/env python3
"""Writes docs/counters.md and docs/reasons.md from the rooms' .def files, and docs/istio-fields.md from the field tables. tools/check_docs.py refuses a tree where they are old.

    gen_docs.py            write the files
"""
import os
import re

import checklib
import istio_fields

ROW = re.compile(r'^X\(\s*(\w+)\s*,(.*)\)\s*(?:/\*.*\*/)?\s*$')
FIELD = re.compile(r'"((?:\\.|[^"\\])*)"|([^,\s][^,]*)')
KIND_METRIC = {"DROP": "drops", "RESET": "resets", "CHALLENGE": "challenges", "REFUSE": "refusals", "REPLY": "replies", "NOTE": "notes"}
ROOM_NAMES = {"telemetry": "tele"}  # folder -> what FOIL_ROOM_... and the metric call it, where they differ


def rows(name):
    """[ID, field...] of every X line."""
    found = []
    for line in checklib.read(name).splitlines():
        match = ROW.match(line)
        if match:
            found.append([match.group(1)] + [(a or b).strip().replace('\\"', '"') for a, b in FIELD.findall(match.group(2))])
    return found


def rooms(suffix):
    """(room, file) of each .def of that name, in the order of the design's list of rooms."""
    files = [n for n in checklib.tracked(".def") if os.path.basename(n) == suffix]
    order = ["core", "nic", "net", "tcp", "stream", "tls", "http", "mesh", "config", "telemetry"]
    named = [(os.path.basename(os.path.dirname(n)), n) for n in files]
    return sorted(named, key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), pair[0]))


def cell(text):
    return text.replace("|", "\\|")


def counters_page():
    lines = ["# Counters", "", "Written by `tools/gen_docs.py` from the rooms' `counters.def`; do not edit. A counter only grows; a gauge is a level. Each is",
             "summed over the workers, and stands at `http://127.0.0.1:15090/stats/prometheus` beside Istio's standard metrics.", ""]
    for room, name in rooms("counters.def"):
        lines += [f"## {room}", "", "| metric | kind | unit | what it counts |", "|---|---|---|---|"]
        for row in rows(name):
            ident, kind, unit, text = row[:4]
            metric = f"foil_{ROOM_NAMES.get(room, room)}_{ident.lower()}" + ("_total" if kind == "COUNTER" else "")
            lines.append(f"| `{metric}` | {kind.lower()} | {unit} | {cell(text)} |")
        lines.append("")
    return "\n".join(lines)


def reasons_page():
    lines = ["# Reasons", "", "Written by `tools/gen_docs.py` from the rooms' `reasons.def` and `dataplane/telemetry/flags.def`; do not edit.", "",
             "Every drop, reset, refusal and local reply has exactly one reason. It is counted in `foil_ROOM_KIND_total{reason=\"NAME\"}`, for",
             "instance `foil_tcp_drops_total{reason=\"paws_old\"}`. A note is counted too, and nothing was lost by it.", ""]
    for room, name in rooms("reasons.def"):
        lines += [f"## {room}", "", "| reason | metric | what happened |", "|---|---|---|"]
        for row in rows(name):
            ident, reason, kind, text = row[:4]
            if ident != "OK":
                lines.append(f"| `{reason}` | `foil_{ROOM_NAMES.get(room, room)}_{KIND_METRIC[kind]}_total` | {cell(text)} |")
        lines.append("")
    lines += ["## Response flags", "", "In the access log (`%RESPONSE_FLAGS%`) and in the label `response_flags` of Istio's metrics; Envoy's names.", "",
              "| flag | what happened |", "|---|---|"]
    for row in rows("dataplane/telemetry/flags.def"):
        lines.append(f"| `{row[1]}` | {cell(row[2])} |")
    return "\n".join(lines) + "\n"


PAGES = {"docs/counters.md": counters_page, "docs/reasons.md": reasons_page, "docs/istio-fields.md": istio_fields.page}

if __name__ == "__main__":
    for path, make in PAGES.items():
        with open(os.path.join(checklib.ROOT, path), "w", encoding="utf-8") as f:
            f.write(make().rstrip("\n") + "\n")
        print(path)
