#!/usr/bin/env python3
"""The state-event engine of FreeBSD's tcp-testsuite (github.com/freebsd-net/tcp-testsuite) for run.py: freebsd.py TESTSUITE FOLDER

Writes its scripts as google's packetdrill reads them into FOLDER, and FOLDER/list with a line each; docs/packetdrill.md says how to run it.
Translated: of its two readings the standard's and not FreeBSD's own; commands that look at FreeBSD's tables are left out, as are the sizes of
its receive buffer; options of outbound SYNs, whose order is each stack's own, are not compared. What does not apply is skipped with a reason."""
import os
import re
import sys

SKIP = [  # a pattern of the path, one of the text, and why
    (r"-closed/", "", "google's packetdrill sends nothing to a socket that is only bound"),
    ("", r"insecure_(rst|syn)=1", "asks for the rules before RFC 5961"),
    (r"dropping-enabled|-drop-ipv", "", "asks to drop SYN with FIN, a sysctl of FreeBSD's"),
    (r"right-edge", r"< [RS]\.?\s+6(57|6[0-2])\d\d:", "the window's edge where FreeBSD's rounding of the receive buffer puts it"),
    (r"rcv-(rst|syn)-closing/", "", "FreeBSD sends its FIN again with the ACK of the peer's"),
    (r"rcv-fin-time-wait/.*using-shutdown", "", "FreeBSD does not answer a FIN in TIME-WAIT; RFC 9293 3.10.7.4 acknowledges it"),
    (r"rcv-syn-ack-listen/", "", "FreeBSD is silent; RFC 9293 3.10.7.2 wants a reset for an ACK in LISTEN"),
    (r"with-data-syn-sent-dropping-disabled|rcv-syn-with-data-syn-sent", "", "bytes of a SYN that crosses ours are not kept; they come again"),
    (r"rcv-syn-(fin-)?time-wait.*(outside-right|right-edge)", "", "a SYN above the window takes over (RFC 6191), with FIN or without"),
]


def reason_of(path, text):
    return next((reason for in_path, in_text, reason in SKIP if re.search(in_path, path) and re.search(in_text, text)), "")


def translate(text):
    lines, is_ours = [], True
    for line in text.splitlines():
        branch = re.match(r"#(?:ifdef (\w+)|endif)", line)
        if branch:
            is_ours = branch.group(1) in (None, "STANDARD")
        elif is_ours:
            line = re.sub(r"`(?!sysctl)[^`]*`", "`true`", line)
            line = re.sub(r"^(\s*[+0-9.]+\s+)getsockopt\(\d+, SOL_SOCKET, SO_RCVBUF.*", r"\1`true`", line)
            if re.match(r"\s*[+0-9.]+\s+>", line):
                line = re.sub(r"<[^>]*>\s*$", "<...>", line)
            lines.append(line)
    return re.sub(r"(?ms)^\s*[+0-9.]+\s+%\{.*?\}%\s*$", "", "\n".join(lines) + "\n")


def main():
    source, folder = os.path.join(sys.argv[1], "state-event-engine"), sys.argv[2]
    rows = []
    for base, _, names in os.walk(source):
        for name in sorted(n for n in names if n.endswith(".pkt")):
            with open(os.path.join(base, name), encoding="utf-8") as f:
                text = f.read()
            path = os.path.relpath(os.path.join(base, name), source)
            os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
            with open(os.path.join(folder, path), "w", encoding="utf-8") as f:
                f.write(translate(text))
            reason = reason_of(path, text)
            rows.append(path + " only=ipv4" + (f" skip {reason}" if reason else ""))  # the scripts say their version themselves
    with open(os.path.join(folder, "list"), "w", encoding="utf-8") as f:
        f.write("\n".join(sorted(rows)) + "\n")
    print(f"{len(rows)} scripts, {sum(' skip ' in r for r in rows)} skipped: {folder}/list")


main()
