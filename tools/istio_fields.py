"""Istio's API field by field against our field tables (ctrl/istio): the page docs/istio-fields.md, and what is missing.

The API is tools/istio_api.txt, the tables are read from the C sources as they are written (ctrl/istio/rows.h). Both are walked side by side from the kinds on,
so that no list of names has to be kept equal."""
import re

import checklib

KINDS = ["VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "WorkloadEntry", "WorkloadGroup", "Sidecar", "Ingress", "IngressClass", "MeshConfig", "ProxyConfig"]
ROWS = re.compile(r"const struct istio_field (\w+)\[\] = \{(.*?)\};", re.S)
TABLE = re.compile(r'const struct istio_table (\w+) =\s*(?:TABLE\(\w+, "([^"]+)", (\w+)|\{\s*\.what = "([^"]+)"(?:[^}]*?(?:FIELDS_OF\(|\.fields = )(\w+))?)', re.S)
TEXT = re.compile(r'const char (\w+)\[\] =((?:\s*"(?:\\.|[^"\\])*")+);')
MACRO = re.compile(r'#define (\w+)((?:\s*"(?:\\.|[^"\\])*")+)\s*\n')
KIND = re.compile(r'(READ|REFUSE|IGNORE)\((\w+|"[^"]*"), "(\w+)"(?:, "[^"]*", \w+, (\w+)|, ((?:"(?:\\.|[^"\\])*"|\w+)(?:\s*"(?:\\.|[^"\\])*")*))?')
STATUS = {"ROW": "honoured", "ROW_NOTED": "with a difference", "ROW_IGNORED": "no meaning here", "ROW_REFUSED": "refused"}


def join(text):
    return "".join(re.findall(r'"((?:\\.|[^"\\])*)"', text)).replace('\\"', '"')


def arguments(text, at):
    """The top-level arguments of the call whose opening bracket is at text[at]; and where it ends."""
    depth, start, found, i = 0, at + 1, [], at
    while True:
        c = text[i]
        if c == '"':
            i = re.compile(r'"(?:\\.|[^"\\])*"').match(text, i).end()
            continue
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        if (c == "," and depth == 1) or depth == 0:
            found.append(text[start:i].strip())
            start = i + 1
        i += 1
        if depth == 0:
            return found, i


def read_rows(body, texts):
    """{field: (status, note, name of the table of what it holds)}"""
    rows, i = {}, 0
    for call in re.finditer(r"\b(ROW(?:_NOTED|_IGNORED|_REFUSED)?)\(", body):
        if call.start() < i:
            continue
        words, i = arguments(body, call.end() - 1)
        short = call.group(1) in ("ROW_IGNORED", "ROW_REFUSED")
        name = join(words[0] if short else words[2])
        note = words[1] if short else words[4] if call.group(1) == "ROW_NOTED" else ""
        table = re.search(r"\.table = &(\w+)", ",".join(words))
        rows[name] = (STATUS[call.group(1)], join(note) or texts.get(note, ""), table.group(1) if table else None)
    return rows


class Tables:
    def __init__(self):
        self.rows, self.tables, self.kinds = {}, {}, {}
        for name in checklib.tracked(".c"):
            if name.startswith("ctrl/istio/"):
                self.read(checklib.read(name))

    def read(self, text):
        texts = {m.group(1): join(m.group(2)) for pattern in (TEXT, MACRO) for m in pattern.finditer(text)}
        local = {m.group(1): read_rows(m.group(2), texts) for m in ROWS.finditer(text)}
        for m in TABLE.finditer(text):
            self.tables[m.group(1)] = local.get(m.group(3) or m.group(5), {})
        for m in KIND.finditer(text):
            note = m.group(5) or ""
            self.kinds.setdefault(m.group(3), (m.group(1), m.group(4), join(note) or texts.get(note, "")))


def api():
    """{message: {field: message that it holds, or None}}"""
    found = {}
    for line in checklib.read("tools/istio_api.txt").splitlines():
        if line and not line.startswith("#"):
            message, field, holds = line.split("\t")
            found.setdefault(message, {})[field] = None if holds == "-" else holds
    return found


def walk():
    """(kind, path, status, note) of every field; status "missing" where no table has it."""
    tables, messages = Tables(), api()

    def fields(kind, message, table, path, seen):
        rows = tables.tables.get(table, {})
        for field, holds in sorted(messages.get(message, {}).items()):
            status, note, inner = rows.get(field, ("missing", "", None))
            yield kind, path + field, status, note
            if holds and inner and (holds, inner) not in seen:
                yield from fields(kind, holds, inner, path + field + ".", seen | {(holds, inner)})

    for kind in KINDS:
        how, table, note = tables.kinds.get(kind, ("READ", "istio_table_mesh_config", "")) if kind != "MeshConfig" else ("READ", "istio_table_mesh_config", "")
        if how == "READ":
            yield from fields(kind, kind, table, "", frozenset())
        else:
            yield kind, "(every field)", "refused" if how == "REFUSE" else "no meaning here", note


def problems():
    return [f"{kind}.{path}: a field of Istio's API that no table of ctrl/istio honours, notes or refuses (tools/istio_api.txt)"
            for kind, path, status, _ in walk() if status == "missing"]


def page():
    found = list(walk())
    lines = ["# Istio's API, field by field", "",
             "Generated by `tools/gen_docs.py` from the field tables of `ctrl/istio`, which are what the compiler itself goes by, against `tools/istio_api.txt`.",
             "`foilctl validate DIR` says the same of a configuration, with file, line and column.", "",
             "| what becomes of it | fields |", "|---|---|"]
    words = {"honoured": "honoured: it does what Istio says", "with a difference": "accepted with a difference, which a warning tells",
             "no meaning here": "accepted, without a meaning for this data plane", "refused": "refused: the resource is an error",
             "missing": "in no table"}
    for status, text in words.items():
        n = sum(s == status for _, _, s, _ in found)
        if n or status != "missing":
            lines.append(f"| {text} | {n} |")
    for kind in KINDS:
        lines += ["", f"## {kind}", "", "| field | | |", "|---|---|---|"]
        lines += [f"| `{path}` | {status} | {note.replace('|', chr(92) + '|')} |" for k, path, status, note in found if k == kind]
    return "\n".join(lines)
