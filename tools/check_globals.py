#!/usr/bin/env python3
"""No global or static variable that can change in dataplane/: the symbol tables of its libraries (objdump -t)."""
import glob
import os
import re
import subprocess

import checklib

SYMBOL = re.compile(r"^[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+)\s+(?:\.hidden )?(\S+)$")
ALLOWED = {
    "DW.ref.__gxx_personality_v0": "the C++ ABI's own pointer (core/regex.cc); relocated once, never written",
    "current_worker": "which worker an assertion's message is about (core/worker.c), thread-local",
}


def changes(section):
    return section == "*COM*" or (re.match(r"\.(data|bss|tbss|tdata)\b", section) and not section.startswith(".data.rel.ro"))


def check():
    folder = checklib.arguments().build
    libraries = sorted(glob.glob(os.path.join(folder, "dataplane", "*", "lib*.a")))
    problems = [] if libraries else [f"no library in {folder}/dataplane: build first"]
    for library in libraries:
        done = subprocess.run(["objdump", "-t", library], capture_output=True, text=True)
        if done.returncode:
            problems.append(f"{library}: {done.stderr.strip()}")
        member = ""
        for line in done.stdout.splitlines():
            if line.endswith(("file format elf64-x86-64",)):
                member = line.split(":")[0]
            found = SYMBOL.match(line)
            if not found or not changes(found.group(2)) or int(found.group(3), 16) == 0 or found.group(1)[6] not in "O":
                continue
            name = re.sub(r"\.\d+$", "", found.group(4))
            if name not in ALLOWED:
                problems.append(f"{os.path.relpath(library, folder)} {member}: {name} in {found.group(2)} can change; workers own their state")
    return problems


checklib.finish(check(), "globals")
