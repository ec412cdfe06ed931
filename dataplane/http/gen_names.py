"""Makes header_hash.h from header_names.def: a multiplier that sends every name to a slot of its own, and the slots.

    gen_names.py header_names.def header_hash.h

The hash is that of name_key() in headers.c, here once more; the unit test looks every name up."""
import re
import sys

SLOTS = 512
MASK = (1 << 64) - 1


def key(name):
    """Length and at most 24 bytes of the name: its first, middle and last eight, fewer when it is short."""
    b, n, mid = name.encode(), len(name), 0
    if n >= 8:
        lo, hi = int.from_bytes(b[:8], "little"), int.from_bytes(b[n - 8:], "little")
        mid = int.from_bytes(b[n // 2 - 4:n // 2 + 4], "little")
    elif n >= 4:
        lo, hi = int.from_bytes(b[:4], "little"), int.from_bytes(b[n - 4:], "little")
    else:
        lo, hi = b[0], b[n // 2] << 8 | b[n - 1]
    return (lo ^ (hi << 23 & MASK | hi >> 41) ^ (mid << 44 & MASK | mid >> 20) ^ n) & MASK


def slots_with(names, multiplier):
    """Slot by slot the id of the name, or None when two names meet."""
    table = [0] * SLOTS
    for i, name in enumerate(names, 1):
        slot = (key(name) * multiplier & MASK) >> 55
        if table[slot]:
            return None
        table[slot] = i
    return table


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="ascii") as f:
        names = re.findall(r'^X\(\w+, "([^"]+)"\)$', f.read(), re.M)
    assert len(names) == len(set(names)) < 256, "a name twice, or too many for a byte"
    assert all(re.fullmatch(r"[a-z0-9-]{1,48}", n) for n in names), "names are lower case and 48 bytes at most"
    assert len({key(n) for n in names}) == len(names), "two names with one key: hash more of them"
    multiplier = 0x9E3779B97F4A7C15
    while not (table := slots_with(names, multiplier)):
        multiplier = (multiplier * 6364136223846793005 + 1442695040888963407) & MASK | 1
    with open(target, "w", encoding="ascii") as f:
        f.write("/* Made by gen_names.py from header_names.def: a perfect hash of the header names. */\n#pragma once\n\n#include <stdint.h>\n\n")
        f.write(f"#define HTTP_NAME_MULTIPLIER {multiplier:#x}ull\n#define HTTP_NAME_SHIFT 55\n\n")
        f.write(f"static const uint8_t http_name_slots[{SLOTS}] = {{\n")
        for at in range(0, SLOTS, 16):
            f.write("\t" + " ".join(f"{i}," for i in table[at:at + 16]) + "\n")
        f.write("};\n")


main()
