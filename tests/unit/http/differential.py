#!/usr/bin/env python3
"""Our HTTP/1.1 parser against llhttp (by httptools): messages that we let in must be read alike there, same method, target, status, body
and end. Being stricter is allowed, being laxer or different is a smuggling hole. Inputs are built from a seed: valid messages, mutated.

    differential.py PROGRAM [--seed N] [--count N]          PROGRAM: test_http_h1_transcript
Speaks TAP. Skips where httptools is not installed."""
import argparse
import random
import re
import struct
import subprocess
import sys

try:
    import httptools
except ImportError:
    print("1..0 # SKIP no httptools")
    sys.exit(0)

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]
FIELDS = [b"Host: a.example", b"X-A: 1", b"Accept: */*", b"Connection: keep-alive", b"Connection: close", b"Content-Length: 5",
          b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"X-B:", b"X-C:\t v \t", b"Cookie: a=b; c",
          b"Content-Length: 05", b"Content-Length: 5, 5", b"Transfer-Encoding: chunked, chunked", b"X-D: \xe9", b"TE: trailers"]
BODIES = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n", b"0\r\n\r\n", b"A\r\n0123456789\r\n000\r\n\r\n",
          b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n"]
NOISE = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b",", b"\x7f", b"\x80", b"0", b"5", b"chunked", b";", b"\r\n ", b"Content-Length: 3\r\n",
         b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"_", b"\x0b", b"+", b"-", b"0x"]


def message(r, is_request):
    fields = [b"Host: a.example"] * is_request + r.sample(FIELDS[1:], r.randint(0, 3))
    if r.random() < 0.5:
        framing = r.choice([(b"Content-Length: 5", b"hello"), (b"Transfer-Encoding: chunked", r.choice(BODIES[2:6]))])
        fields = [f for f in fields if not f.lower().startswith((b"content-length", b"transfer-encoding"))] + [framing[0]]
        body = framing[1]
    else:
        body = r.choice(BODIES)
    if is_request:
        line = r.choice(METHODS) + b" " + r.choice([b"/", b"/a/b?c=d", b"http://b.example/x", b"/%20"]) + b" HTTP/1.1"
    else:
        line = b"HTTP/1.1 " + r.choice([b"200 OK", b"404 Not Found", b"204 No Content", b"500", b"304 Not Modified"])
    return b"\r\n".join([line] + fields) + b"\r\n\r\n" + body


def mutated(r, data):
    for _ in range(r.choice([0, 0, 1, 1, 2, 3])):
        at = r.randrange(len(data) + 1)
        kind = r.random()
        if kind < 0.6:
            data = data[:at] + r.choice(NOISE) + data[at:]
        elif kind < 0.8:
            data = data[:at] + data[at + r.randint(1, 3):]
        else:
            data = data[:at] + bytes([r.randrange(256)]) + data[at + 1:]
    return data


def strict(answer):
    """With its head's bare LFs as CRLF and its folded fields as one line: what we take from origins (RFC 9112 2.2, 5.2), llhttp does not."""
    end = re.search(rb"\n\r?\n", answer)
    if not end:
        return answer
    line, lf, fields = answer[:end.end()].partition(b"\n")
    return re.sub(rb"(?<!\r)\n", b"\r\n", line + lf + re.sub(rb"\r?\n[ \t]+", b" ", fields)) + answer[end.end():]


class Llhttp:
    """Collects (first line, body) of whole messages until an error."""

    def __init__(self, is_request, data):
        self.done, self.body, self.url, self.reason = [], b"", b"", ""
        self.parser = httptools.HttpRequestParser(self) if is_request else httptools.HttpResponseParser(self)
        self.is_request = is_request
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self.reason = str(e)

    def on_message_begin(self):
        self.body = self.url = b""

    def on_url(self, url):
        self.url += url

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        first = (self.parser.get_method(), self.url) if self.is_request else self.parser.get_status_code()
        self.done.append((first, len(self.body), self.body))


def ours(text, is_request):
    """[(first line, length, body)] of the whole messages in a transcript."""
    found = []
    pattern = rb"^(\S+) (\S+) host=([^ |]*)([^|\n]*)\|(\d+):" if is_request else rb"^(\d{3})([^|\n]*)\|(\d+):"
    at = 0
    while at < len(text):
        m = re.compile(pattern).match(text, at)
        if not m:
            at = text.find(b"\n", at) + 1 or len(text)
            continue
        n = int(m.group(m.lastindex))
        body = text[m.end():m.end() + n]
        first = (m[1], m[2]) if is_request else int(m[1])
        found.append((first, n, body))
        at = m.end() + n + 1
    return found


def same(a, b, is_request):
    if a[1:] != b[1:]:
        return False
    if not is_request:
        return a[0] == b[0]
    url = re.sub(rb"^(?i:https?)://[^/?]*", b"", b[0][1]) or b"/"
    return a[0][0] == b[0][0] and a[0][1] == (url if url.startswith((b"/", b"*")) else b"/" + url)


def is_known(reason, data, mine, is_request):
    """Where we follow the RFC and llhttp is narrower."""
    if "Invalid method" in reason and is_request:
        return mine[0][0] not in METHODS  # llhttp knows a list of methods, RFC 9110 9.1 any token
    if "after method" in reason and is_request:
        return mine[0][0] not in METHODS
    if "chunk size" in reason:
        return re.search(rb"[0-9a-fA-F][ \t]+;", data)  # BWS before an extension, RFC 9112 7.1.1
    if "chunk extensions" in reason:
        return re.search(rb"[0-9a-fA-F];[ \t]|;\r\n|;[ -~]*[^ -~\r\n]|;[ -~]*[^\w=;\r\n]", data)  # what is in an extension does not matter
    if "HTTP version" in reason:
        return re.search(rb"HTTP/1\.[2-9]", data)  # a higher minor version is 1.1, RFC 9110 2.5
    if "invalid `Transfer-Encoding`" in reason:
        return b"chunked\t" in data  # HTAB is OWS, RFC 9112 5.1
    return ("present with" in reason or "Transfer-Encoding" in reason) and re.search(
        rb"\r\n0+\r\n(?s:.*)(Content-Length|Transfer-Encoding)", data)  # dropped as trailers, RFC 9110 6.5.1


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--seed", type=int, default=9112)
    p.add_argument("--count", type=int, default=20000)
    a = p.parse_args()
    r = random.Random(a.seed)
    inputs = []
    for i in range(a.count):
        is_request = i % 2 == 0
        data = b"".join(message(r, is_request) for _ in range(r.randint(1, 2) if is_request else 1))
        inputs.append((is_request, mutated(r, data)))
    records = b"".join((b"Q" if q else b"R") + struct.pack("<I", len(d)) + d for q, d in inputs)
    out = subprocess.run([a.program], input=records, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    transcripts, at = [], 0
    while at + 4 <= len(out):
        n = struct.unpack_from("<I", out, at)[0]
        transcripts.append(out[at + 4:at + 4 + n])
        at += 4 + n
    print("1..2")
    if len(transcripts) != len(inputs):
        print(f"not ok 1 - {len(transcripts)} transcripts for {len(inputs)} inputs\nnot ok 2 - nothing was compared")
        return 1
    wrong = n_messages = n_refused = 0
    for (is_request, data), text in zip(inputs, transcripts):
        mine, theirs = ours(text, is_request), Llhttp(is_request, data if is_request else strict(data))
        n_messages += len(mine)
        n_refused += not mine
        if not is_request and mine and b"reset" not in text and not theirs.done and not theirs.reason:
            continue  # a body until close: llhttp is not told of the end
        for i, m in enumerate(mine):
            if i >= len(theirs.done) and is_known(theirs.reason, data, m, is_request):
                break
            if i >= len(theirs.done) or not same(m, theirs.done[i], is_request):
                wrong += 1
                if wrong < 10:
                    print(f"# input {data!r}\n# ours {m!r}\n# llhttp {theirs.done[i:i + 1]!r} {theirs.reason}")
                break
    print(f"{'not ok' if wrong else 'ok'} 1 - {n_messages} messages that we let in are read alike by llhttp, {wrong} are not")
    lively = n_messages > a.count // 4 and n_refused > a.count // 10
    print(f"{'ok' if lively else 'not ok'} 2 - of {a.count} inputs some are let in and {n_refused} are not")
    return 1 if wrong or not lively else 0


sys.exit(main())
