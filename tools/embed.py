#!/usr/bin/env python3
"""A file as a C array: embed.py INPUT OUTPUT NAME gives `const unsigned char NAME[]` and `const size_t NAME_bytes`."""
import sys


def main(source, target, name):
    with open(source, "rb") as f:
        data = f.read()
    lines = [",".join(str(byte) for byte in data[at:at + 40]) + "," for at in range(0, len(data), 40)]
    with open(target, "w") as f:
        f.write("#include <stddef.h>\n\n" + f"extern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n\n")
        f.write(f"const unsigned char {name}[] = {{\n" + "\n".join(lines) + f"\n}};\nconst size_t {name}_bytes = sizeof({name});\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
