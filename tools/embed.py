#!/usr/bin/env python3
"""A file as a C array: embed.py INPUT OUTPUT NAME gives `const unsigned char NAME[]` and `const size_t NAME_bytes`; of a page (.html) also
`const char NAME_policy[]`, the Content-Security-Policy by which a browser runs its own scripts and styles, word for word, and nothing else."""
import base64
import hashlib
import re
import sys


def policy(page):
    def own(tag):
        found = re.findall(rb"<" + tag + rb">(.*?)</" + tag + rb">", page, re.DOTALL)
        return " ".join("'sha256-" + base64.b64encode(hashlib.sha256(text).digest()).decode() + "'" for text in found) or "'none'"
    return f"default-src 'none'; script-src {own(b'script')}; style-src {own(b'style')}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def main(source, target, name):
    with open(source, "rb") as f:
        data = f.read()
    lines = [",".join(str(byte) for byte in data[at:at + 40]) + "," for at in range(0, len(data), 40)]
    with open(target, "w") as f:
        f.write("#include <stddef.h>\n\n" + f"extern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n\n")
        f.write(f"const unsigned char {name}[] = {{\n" + "\n".join(lines) + f"\n}};\nconst size_t {name}_bytes = sizeof({name});\n")
        if source.endswith(".html"):
            f.write(f"\nextern const char {name}_policy[];\nconst char {name}_policy[] = \"{policy(data)}\";\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
