#!/usr/bin/env python3
"""Every header compiles alone, with the flags that the build uses."""
import concurrent.futures
import json
import os
import shlex
import subprocess

import checklib


def include_flags(folder):
    """The include paths and the language of the build, from its compile commands."""
    with open(os.path.join(folder, "compile_commands.json")) as f:
        commands = json.load(f)
    flags, words = [], []
    for entry in commands:
        if not entry["file"].endswith(".c"):
            continue
        words = shlex.split(entry["command"])
        for i, word in enumerate(words):
            if word in ("-isystem", "-include"):
                pair = (word, words[i + 1] if word == "-include" else os.path.join(entry["directory"], words[i + 1]))
                if pair not in flags:
                    flags.append(pair)
            elif word.startswith("-isystem/") and ("-isystem", word[8:]) not in flags:
                flags.append(("-isystem", word[8:]))
            elif word.startswith("-I") and ("-I", os.path.join(entry["directory"], word[2:])) not in flags:
                flags.append(("-I", os.path.join(entry["directory"], word[2:])))
    march = next((w for w in words if w.startswith("-march=")), "-march=x86-64-v2")
    return [w for pair in flags for w in pair] + [march, "-D_GNU_SOURCE", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter",
                                                  "-Wno-missing-field-initializers", "-Wno-pragma-once-outside-header", "-Werror"]


def compile_alone(header, flags):
    source = f'#include "{header}"\n#include "{header}"\n'
    done = subprocess.run(["cc", "-fsyntax-only", *flags, "-I", checklib.ROOT, "-x", "c", "-"], input=source, capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"{header} does not compile alone:\n{done.stderr.strip()}"]


def check():
    flags = include_flags(checklib.arguments().build)
    headers = [h for h in checklib.tracked(".h") if not h.startswith("tests/")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return [p for problems in pool.map(lambda h: compile_alone(h, flags), headers) for p in problems]


checklib.finish(check(), "headers")
