"""What the checks share: the files of the tree, and C without its comments and strings."""
import argparse
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOISE = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def tracked(*suffixes):
    """Files git knows, and new ones that it would take; relative to the root."""
    done = subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    names = done.stdout.split("\n") if done.returncode == 0 else walk()
    return sorted(n for n in set(names) if n and n.endswith(suffixes) and os.path.isfile(os.path.join(ROOT, n)))


def walk():
    """Without git (a tarball): everything but build folders."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in ("build", ".git", ".foil", "__pycache__")]
        found += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return found


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="surrogateescape") as f:
        return f.read()


def code(text, keep_strings=False):
    """text with comments (and strings) blanked, lines kept where they are."""
    def blank(match):
        s = match.group(0)
        if keep_strings and s[0] in "\"'":
            return s
        return re.sub(r"[^\n]", " ", s)
    return NOISE.sub(blank, text)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    return parser.parse_args()


def finish(problems, what):
    for problem in problems:
        print(problem)
    print(f"{what}: {len(problems)} problems" if problems else f"{what}: fine")
    raise SystemExit(1 if problems else 0)
