#!/usr/bin/env python3
"""The generated pages are current, and every link and every named file of the documentation exists."""
import os
import re

import checklib
import gen_docs

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:conf|nic|dataplane|ctrl|programs|perf|tests|tools|docs)/[\w./-]+)`")


def generated():
    for path, make in gen_docs.PAGES.items():
        if not os.path.exists(os.path.join(checklib.ROOT, path)) or checklib.read(path) != make().rstrip("\n") + "\n":
            yield f"{path} is older than the .def files: run tools/gen_docs.py"


def links(page):
    text = checklib.read(page)
    folder = os.path.dirname(page)
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        path = os.path.normpath(os.path.join(folder, target.split("#")[0]))
        if not os.path.exists(os.path.join(checklib.ROOT, path)):
            yield f"{page}: links to {target}, which is not there"
    for name in (n for n in FILE.findall(text) if "NAME" not in n):
        if not any(os.path.exists(os.path.join(checklib.ROOT, name.rstrip("/") + suffix)) for suffix in ("", ".c")):
            yield f"{page}: names {name}, which is not there"


def check():
    pages = [n for n in checklib.tracked(".md") if n == "README.md" or n.startswith(("docs/", "conf/"))]
    problems = list(generated())
    for page in pages:
        if page.startswith("docs/decisions/"):
            continue  # a decision is about its day and is not rewritten
        problems += links(page)
    return problems


checklib.finish(check(), "docs")
