"""Makes hpack_tables.h: the static table with header ids, the static index of each header id, and the Huffman decoder's automaton.

    gen_hpack.py hpack_static.def hpack_huffman.def header_names.def hpack_tables.h

The automaton takes four bits a step. Its states are the inner nodes of the code's tree (256 of them, since a full binary tree with 257
leaves has as many); a step ends at most one symbol, because the shortest code has five bits."""
import re
import sys

EOS = 256


def lines(path, pattern):
    with open(path, encoding="ascii") as f:
        return re.findall(pattern, f.read(), re.M)


def tree(codes):
    """children[node] = [zero, one]; a leaf is (symbol,)."""
    children = [[None, None]]
    for symbol, (code, bits) in enumerate(codes):
        node = 0
        for i in range(bits - 1, 0, -1):
            bit = code >> i & 1
            if children[node][bit] is None:
                children.append([None, None])
                children[node][bit] = len(children) - 1
            node = children[node][bit]
        children[node][code & 1] = (symbol,)
    assert len(children) == 256 and all(c is not None for pair in children for c in pair)
    return children


def may_end(children):
    """Nodes at which the input may end: fewer than eight bits into a code, all of them ones (RFC 7541 5.2)."""
    ends, node = set(), 0
    for _ in range(8):
        ends.add(node)
        node = children[node][1]
    return ends


def step(children, ends, node, nibble):
    symbol, emits, fails = 0, 0, 0
    for i in (3, 2, 1, 0):
        node = children[node][nibble >> i & 1]
        if isinstance(node, tuple):
            if node[0] == EOS:
                fails, node = 1, 0
                break
            symbol, emits, node = node[0], 1, 0
    return node, symbol, emits | fails << 1 | (4 if node in ends else 0)


def main():
    static_path, huffman_path, names_path, target = sys.argv[1:]
    static = lines(static_path, r'^X\("([^"]*)", "([^"]*)"\)$')
    codes = [(int(c, 16), int(b)) for c, b in lines(huffman_path, r"^X\((0x[0-9a-f]+), (\d+)\)$")]
    names = [name for _, name in lines(names_path, r'^X\((\w+), "([^"]+)"\)$')]
    assert len(static) == 61 and len(codes) == 257
    ids = {name: i for i, name in enumerate(names, 1)}
    children = tree(codes)
    ends = may_end(children)
    with open(target, "w", encoding="ascii") as f:
        f.write("/* Made by gen_hpack.py. */\n#pragma once\n\n#include <stdint.h>\n\n#include \"dataplane/core/base.h\"\n\n")
        f.write("static const struct hpack_static {\n\tstruct foil_slice name, value;\n\tuint16_t id;\n} hpack_static_table[62] = {\n\t{{\"\", 0}, {\"\", 0}, 0},\n")
        for name, value in static:
            f.write(f'\t{{{{"{name}", {len(name)}}}, {{"{value}", {len(value)}}}, {ids.get(name, 0)}}},\n')
        f.write("};\n\n/* The first index with that name; 0: none. */\n")
        f.write(f"static const uint8_t hpack_static_of_id[{len(names) + 1}] = {{\n\t0,\n")
        first = {}
        for i, (name, _) in enumerate(static, 1):
            first.setdefault(name, i)
        for name in names:
            f.write(f"\t{first.get(name, 0)},\n")
        f.write("};\n\n#define HPACK_HUFFMAN_EMITS 1u\n#define HPACK_HUFFMAN_FAILS 2u\n#define HPACK_HUFFMAN_MAY_END 4u\n\n")
        f.write("static const struct hpack_step {\n\tuint8_t next, symbol, flags;\n} hpack_huffman[256][16] = {\n")
        for node in range(256):
            f.write("\t{" + ", ".join("{%d, %d, %d}" % step(children, ends, node, nibble) for nibble in range(16)) + "},\n")
        f.write("};\n")


main()
