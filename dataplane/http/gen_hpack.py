"""Makes hpack_tables.h: the static table with header ids, what a literal of each header id begins with, and the Huffman decoder's tables.

    gen_hpack.py hpack_static.def hpack_huffman.def header_names.def hpack_tables.h"""
import re
import sys

EOS = 256
SHORT_BITS, BITS_MAX = 10, 30
PSEUDO = [":method", ":scheme", ":authority", ":path", ":status", ":protocol"]  # enum hpack_pseudo
NAME_BYTES_MAX = 48  # HTTP_NAME_BYTES_MAX


def lines(path, pattern):
    with open(path, encoding="ascii") as f:
        return re.findall(pattern, f.read(), re.M)


def short_codes(codes):
    """(symbol, bits) by the first SHORT_BITS bits; bits 0: the code is longer."""
    table = [(0, 0)] * (1 << SHORT_BITS)
    for symbol, (code, bits) in enumerate(codes):
        for rest in range(1 << (SHORT_BITS - bits) if bits <= SHORT_BITS else 0):
            table[code << (SHORT_BITS - bits) | rest] = (symbol, bits)
    return table


def long_codes(codes):
    """By length (first code, how many, where in symbols); symbols in the order of their codes."""
    symbols, lengths = [], [(0, 0, 0)] * (BITS_MAX + 1)
    for bits in range(SHORT_BITS + 1, BITS_MAX + 1):
        those = sorted((code, symbol) for symbol, (code, n) in enumerate(codes) if n == bits)
        if not those:
            continue
        assert [code for code, _ in those] == list(range(those[0][0], those[0][0] + len(those))), "the code is canonical"
        lengths[bits] = (those[0][0], len(those), len(symbols))
        symbols += [symbol for _, symbol in those]
    return symbols, lengths


def name_prefix(name, index):
    """What a literal without indexing begins with (RFC 7541 6.2.2): the name's index or the name itself."""
    if index:
        return bytes([index]) if index < 15 else bytes([15, index - 15])
    return bytes([0, len(name)]) + name.encode()


def main():
    static_path, huffman_path, names_path, target = sys.argv[1:]
    static = lines(static_path, r'^X\("([^"]*)", "([^"]*)"\)$')
    codes = [(int(c, 16), int(b)) for c, b in lines(huffman_path, r"^X\((0x[0-9a-f]+), (\d+)\)$")]
    names = [name for _, name in lines(names_path, r'^X\((\w+), "([^"]+)"\)$')]
    assert len(static) == 61 and len(codes) == 257
    ids = {name: i for i, name in enumerate([*names, *PSEUDO], 1)}
    short, (symbols, lengths) = short_codes(codes), long_codes(codes)
    with open(target, "w", encoding="ascii") as f:
        f.write("/* Made by gen_hpack.py. */\n#pragma once\n\n#include <stdint.h>\n\n#include \"dataplane/http/message.h\"\n\n")
        f.write("static const struct http_header hpack_static_table[62] = {\n\t{{\"\", 0}, {\"\", 0}, 0, false, 0},\n")
        for name, value in static:
            fits = value != "" and name in PSEUDO
            f.write(f'\t{{{{"{name}", {len(name)}}}, {{"{value}", {len(value)}}}, {ids.get(name, 0)}, false, {3 | (8 if fits else 0)}}},\n')
        f.write("};\n\n/* What a literal field of that name begins with when it is not to be indexed. */\n")
        f.write(f"#define HPACK_PREFIX_BYTES {NAME_BYTES_MAX + 2}\nstatic const struct hpack_prefix {{\n\tuint8_t n_bytes, bytes[HPACK_PREFIX_BYTES];\n"
                f"}} hpack_prefix_of_id[{len(names) + 1}] = {{\n\t{{0, {{0}}}},\n")
        first = {}
        for i, (name, _) in enumerate(static, 1):
            first.setdefault(name, i)
        for name in names:
            prefix = name_prefix(name, first.get(name, 0))
            f.write("\t{%d, {%s}},\n" % (len(prefix), ", ".join(str(byte) for byte in prefix)))
        f.write("};\n\n/* By id, pseudo fields too. */\n#define HPACK_NAMES \\\n")
        f.write(", \\\n".join('\t{"%s", %d}' % (name, len(name)) for name in ["", *names, *PSEUDO]))
        f.write("\n")
        f.write(f"\n/* The first index with that name; 0: none. */\nstatic const uint8_t hpack_index_of_id[{len(names) + 1}] = {{\n\t0, ")
        f.write(", ".join(str(first.get(name, 0)) for name in names))
        f.write(f",\n}};\n\n#define HPACK_HUFFMAN_SHORT_BITS {SHORT_BITS}u\n#define HPACK_HUFFMAN_BITS_MAX {BITS_MAX}u\n#define HPACK_HUFFMAN_EOS {EOS}\n\n")
        f.write("static const struct hpack_short_code {\n\tuint8_t symbol, n_bits;\n} hpack_short_codes[%d] = {\n" % len(short))
        for i in range(0, len(short), 16):
            f.write("\t" + ", ".join("{%d, %d}" % pair for pair in short[i:i + 16]) + ",\n")
        f.write("};\n\nstatic const struct hpack_code_length {\n\tuint32_t first;\n\tuint16_t n, at;\n} hpack_code_lengths[%d] = {\n" % len(lengths))
        for one in lengths:
            f.write("\t{0x%x, %d, %d},\n" % one)
        f.write("};\nstatic const uint16_t hpack_long_symbols[%d] = {\n" % len(symbols))
        for i in range(0, len(symbols), 16):
            f.write("\t" + ", ".join(str(symbol) for symbol in symbols[i:i + 16]) + ",\n")
        f.write("};\n")


main()
