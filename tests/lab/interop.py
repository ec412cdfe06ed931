#!/usr/bin/env python3
"""Interoperability and goodput against Linux: our TCP and Linux's, and Linux's and Linux's, over the same bad wire (tests/lab/impair).

    interop.py [--build DIR] short                the cells of CI, one run each, sha256 and a loose floor; in TAP
    interop.py [--build DIR] table [--runs N] [--lanes N] [--only WORD] [--json FILE] [--keep DIR]
                                                  goodput, medians of N runs of each pair, as the table of docs/tcp.md
    interop.py [--build DIR] all [--lanes N] [--only WORD]
                                                  every combination of role, family, options, MSS and loss: sha256
    interop.py [--build DIR] expert [--keep DIR]  captures of both pairs, judged by tshark's expert

A cell is one way of transferring: who sends, who opens, family, MSS, options, loss, congestion control. Each lane is three hosts in
namespaces of its own: Linux A, our tcp_peer B and Linux C, with wires A-B and A-C. The options of a cell are A's: what A does not
offer, nobody uses. Runs of the two pairs alternate, so that both meet the same machine. Needs root."""
import argparse
import collections
import concurrent.futures
import ctypes
import hashlib
import itertools
import json
import multiprocessing
import os
import queue
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PORT = 5000
MTU = 9000
RATE_MBIT, DELAY_MS, QUEUE_BYTES = 100, 10, 250000  # 20 ms of round trip, a queue of one bandwidth-delay product
PERIOD = 251 * 256
TRANSFER_LIMIT_S = 120
FLOOR, SHORT_FLOOR = 0.8, 0.25
OURS_CC = {"cubic": "cubic", "bbr": "bbr", "reno": "newreno"}
LOSSES = {"0": "", "0.1 %": "loss=0.1", "1 %": "loss=1", "5 %": "loss=5", "reorder": "reorder=2:6"}
BASE = {"sender": "us", "opener": "linux", "family": 4, "mss": 1460, "ts": 1, "sack": 1, "wscale": 1, "ecn": 0, "loss": "0", "cc": "cubic"}
DEFAULT_N = {"0": 16, "0.1 %": 20, "1 %": 4, "5 %": 1.5, "reorder": 10}  # MB, of 1460-byte segments under cubic
Cell = collections.namedtuple("Cell", list(BASE) + ["n_bytes"])


def cell(n_bytes=0, **how):
    c = {**BASE, **how}
    scale = {"1 %": 3, "5 %": 6}.get(c["loss"], 1) if c["cc"] == "bbr" else 1
    scale *= 0.5 if c["mss"] < 1000 and c["loss"] != "0" else 1
    scale *= 3 if c["mss"] > 8000 and c["loss"] == "1 %" else 1  # large segments are few, and so are their losses
    scale *= 0.25 if not c["sack"] and c["loss"] not in ("0", "1 %") else 1  # a round trip a hole: slow; but at 1 % a megabyte has too few losses to compare
    scale *= 0.5 if not c["wscale"] else 1
    return Cell(**c, n_bytes=n_bytes or int(DEFAULT_N[c["loss"]] * scale * 1000000))


def describe(c):
    off = [name for name in ("ts", "sack", "wscale") if not getattr(c, name)]
    return (f"{c.cc}, {'we send' if c.sender == 'us' else 'we receive'}, {'we' if c.opener == 'us' else 'Linux'} open{'' if c.opener == 'us' else 's'}, "
            f"IPv{c.family}, MSS {c.mss}{''.join(', no ' + o for o in off)}{', ECN' if c.ecn else ''}, loss {c.loss}")


def table_cells():
    """What docs/tcp.md shows."""
    senders, ccs = ("us", "linux"), ("cubic", "bbr")
    cells = [cell(cc=cc, sender=s, loss=loss) for cc in ccs for s in senders for loss in LOSSES]
    cells += [cell(cc=cc, sender=s, loss=loss, mss=mss) for cc in ccs for mss in (536, 8960) for s in senders for loss in ("0", "1 %")]
    cells += [cell(cc=cc, sender=s, loss=loss, **{option: 0}) for cc in ccs for option in ("ts", "sack", "wscale") for s in senders
              for loss in ("0", "1 %")]
    cells += [cell(cc=cc, sender=s, loss=loss, ecn=1) for cc in ccs for s in senders for loss in ("0", "1 %")]
    cells += [cell(cc=cc, sender=s, loss=loss, family=family, opener=opener) for cc in ccs for family, opener in ((6, "linux"), (4, "us"), (6, "us"))
              for s in senders for loss in ("0", "1 %")]
    return cells + [cell(cc="reno", sender=s, loss=loss) for s in senders for loss in ("0", "1 %")]


def all_cells():
    """Every combination; the algorithm alternates."""
    names = ("sender", "opener", "family", "mss", "ts", "sack", "wscale", "ecn", "loss")
    values = (("us", "linux"), ("us", "linux"), (4, 6), (536, 1460, 8960), (1, 0), (1, 0), (1, 0), (0, 1), tuple(LOSSES))
    cells = []
    for i, one in enumerate(itertools.product(*values)):
        how = dict(zip(names, one))
        n_bytes = {"5 %": 60000, "1 %": 150000}.get(how["loss"], 300000)
        cells.append(cell(cc=("cubic", "bbr")[i // 5 % 2], n_bytes=n_bytes, **how))
    return cells


def short_cells():
    return [cell(n_bytes=n, **how) for n, how in (
        (8000000, {"cc": "cubic", "sender": "us", "loss": "0"}),
        (8000000, {"cc": "cubic", "sender": "linux", "loss": "0", "family": 6}),
        (8000000, {"cc": "bbr", "sender": "us", "loss": "1 %", "opener": "us"}),
        (4000000, {"cc": "bbr", "sender": "us", "loss": "5 %", "family": 6}),
        (2000000, {"cc": "cubic", "sender": "us", "loss": "1 %", "family": 6, "opener": "us"}),
        (1000000, {"cc": "cubic", "sender": "linux", "loss": "1 %", "ts": 0}),
        (500000, {"cc": "cubic", "sender": "us", "loss": "1 %", "sack": 0}),
        (2000000, {"cc": "cubic", "sender": "us", "loss": "0", "wscale": 0, "opener": "us"}),
        (4000000, {"cc": "cubic", "sender": "us", "loss": "reorder", "ecn": 1}),
        (4000000, {"cc": "bbr", "sender": "linux", "loss": "reorder", "opener": "us"}),
        (8000000, {"cc": "bbr", "sender": "us", "loss": "0", "mss": 8960}),
        (2000000, {"cc": "cubic", "sender": "linux", "loss": "0.1 %", "mss": 536, "sack": 0, "ts": 0}),
    )]


def expert_cells():
    return [cell(cc=cc, sender=s, loss=loss, n_bytes=1500000, **more) for cc in ("cubic", "bbr") for s in ("us", "linux")
            for loss in ("0", "1 %", "reorder") for more in ({}, {"family": 6, "opener": "us"})]


# ---- bytes

def pattern(n):
    one = bytes((i * 131 + i // 251) & 255 for i in range(PERIOD))
    return (one * (n // PERIOD + 1))[:n]


PATTERN = pattern(40 << 20)


def take_all(s):
    h, n = hashlib.sha256(), 0
    while piece := s.recv(1 << 18):
        h.update(piece)
        n += len(piece)
    return n, h.hexdigest()


def expected(n):
    return n, hashlib.sha256(memoryview(PATTERN)[:n]).hexdigest()


# ---- one lane

def run(*args, check=True):
    done = subprocess.run(args, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done


class Lane:
    """Three hosts and two wires; transfers one after the other."""

    def __init__(self, name, build):
        self.build, self.n_ports = build, 6000
        self.ns = {x: f"{name}-{x}" for x in "abcw"}
        self.peers, self.wire_a, self.running = {}, {}, []
        self.server_stop = threading.Event()

    def __enter__(self):
        for ns in self.ns.values():
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        # Frames cross A's veth, the wire, and the other host's veth: path 0 leads to us, path 1 to Linux
        for ends in (("a", "a0", "wa0"), ("b", "b0", "wb0"), ("a", "a1", "wa1"), ("c", "c0", "wc0")):
            self.veth(*ends)
        for i, host in ((0, "a"), (1, "a"), (1, "c")):
            last = 1 if host == "c" else 2
            dev = f"{host}{i if host == 'a' else 0}"
            run("ip", "-n", self.ns[host], "addr", "add", f"198.18.{78 + i}.{last}/24", "dev", dev)
            run("ip", "-n", self.ns[host], "addr", "add", f"fd00:f011:{78 + i}::{last}/64", "dev", dev, "nodad")
        for near, dev, far, far_dev, net, last in (("a", "a0", "b", "b0", 78, 1), ("a", "a1", "c", "c0", 79, 1), ("c", "c0", "a", "a1", 79, 2)):
            with_mac = json.loads(run("ip", "-n", self.ns[far], "-j", "link", "show", "dev", far_dev).stdout)[0]["address"]
            for address in (f"198.18.{net}.{last}", f"fd00:f011:{net}::{last}"):  # resolving is not what is measured
                run("ip", "-n", self.ns[near], "neigh", "replace", address, "lladdr", with_mac, "dev", dev, "nud", "permanent")
        for host in "ac":
            self.sysctl(host, tcp_no_metrics_save=1, tcp_ecn=1, tcp_rmem="4096 131072 6291456", tcp_wmem="4096 16384 4194304")
        self.listener = self.socket_in("c", 4, listen=("0.0.0.0", PORT))
        self.listener6 = self.socket_in("c", 6, listen=("::", PORT))
        for listener in (self.listener, self.listener6):
            threading.Thread(target=self.serve, args=(listener,), daemon=True).start()
        return self

    def __exit__(self, *ignored):
        self.server_stop.set()
        for p in [p for p in self.peers.values()] + self.running:
            p.terminate()
        for p in [p for p in self.peers.values()] + self.running:
            p.wait()
        for ns in self.ns.values():
            run("ip", "netns", "del", ns, check=False)

    def veth(self, host, dev, wire_dev):
        run("ip", "-n", self.ns[host], "link", "add", dev, "type", "veth", "peer", "name", wire_dev, "netns", self.ns["w"])
        for ns, one in ((self.ns[host], dev), (self.ns["w"], wire_dev)):
            run("ip", "netns", "exec", ns, "ethtool", "-K", one, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
            if ns == self.ns["w"]:
                run("ip", "netns", "exec", ns, "sysctl", "-qw", f"net.ipv6.conf.{one}.disable_ipv6=1")
            run("ip", "-n", ns, "link", "set", one, "mtu", str(MTU), "txqueuelen", "10000", "up")

    def sysctl(self, host, **values):
        run("ip", "netns", "exec", self.ns[host], "sysctl", "-qw", *(f"net.ipv4.{k}={v}" for k, v in values.items()))

    def socket_in(self, host, family, listen=None):
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.ns[host]}") as there:
            if LIBC.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                s = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
                if listen:
                    if family == 6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(listen)
                    s.listen(16)
                else:
                    s.settimeout(TRANSFER_LIMIT_S)
                return s
            finally:
                if LIBC.setns(here.fileno(), CLONE_NEWNET):
                    raise SystemExit("interop: cannot come back from the namespace")

    # what C does: tcp_peer.c's protocol

    def serve(self, listener):
        while True:
            s, (address, *_) = listener.accept()
            s.settimeout(TRANSFER_LIMIT_S)
            threading.Thread(target=self.serve_one, args=(s, address), daemon=True).start()

    def serve_one(self, s, address):
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += s.recv(1) or b"\n"
            words = line.decode().split()
            if words[:1] == ["dial"]:
                s.close()
                s = self.tuned(self.socket_in("c", 6 if ":" in address else 4), self.cell)
                s.connect((address, int(words[1])))
                words = words[2:]
            if words[:1] == ["send"]:
                s.sendall(memoryview(PATTERN)[:int(words[1])])
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            elif words[:1] == ["take"]:
                s.sendall("{} {}\n".format(*take_all(s)).encode())
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # A's end tells
        finally:
            s.close()

    def tuned(self, s, c):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, c.cc.encode())
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, c.mss)
        return s

    # our end

    def ensure_peer(self, cc):
        """tcp_peer with this algorithm has the port; another one leaves it."""
        if cc in self.peers:
            return
        self.end_peer()
        log = tempfile.TemporaryFile("w+")
        p = subprocess.Popen(["ip", "netns", "exec", self.ns["b"], os.path.join(self.build, "tests/lab/tcp_peer"), "af_packet:iface=b0", "7200", "pause",
                              OURS_CC[cc], "198.18.78.1/24", "fd00:f011:78::1/64"], stdout=subprocess.PIPE, stderr=log, text=True)
        line = p.stdout.readline()
        if line != "ready\n":
            p.wait()
            log.seek(0)
            raise RuntimeError(f"tcp_peer said {line!r}: {log.read()[-1000:]}")
        self.peers[cc] = p

    def end_peer(self):
        """Its last words: the counters."""
        text = ""
        for p in self.peers.values():
            p.terminate()
            text += p.communicate(timeout=60)[0]
        self.peers.clear()
        return text

    def wire_up(self, path, spec, seed):
        both = f"rate={RATE_MBIT},delay={DELAY_MS},queue={QUEUE_BYTES}" + ("," + spec if spec else "")
        p = subprocess.Popen(["ip", "netns", "exec", self.ns["w"], os.path.join(self.build, "tests/lab/impair/impair"), "-s", str(seed), f"wa{path}",
                              "wb0" if path == 0 else "wc0", "both=" + both], stdout=subprocess.PIPE, text=True)
        if p.stdout.readline() != "ready\n":
            raise RuntimeError("impair did not get ready")
        self.running.append(p)
        return p

    def wire_down(self, p):
        p.terminate()
        out = p.communicate(timeout=20)[0]
        self.running.remove(p)
        return json.loads(out.splitlines()[-1])

    def transfer(self, c, path, seed, pcap=None):
        """(bytes a second, what the wire counted); raises when a byte is wrong. path 0: Linux with us; 1: Linux with Linux."""
        if path == 0:
            self.ensure_peer(c.cc)
        self.cell = c
        self.tuned(self.listener6 if c.family == 6 else self.listener, c)
        self.sysctl("a", tcp_timestamps=c.ts, tcp_sack=c.sack, tcp_window_scaling=c.wscale, tcp_ecn=c.ecn)
        wire = self.wire_up(path, LOSSES[c.loss], seed)
        dump = None
        if pcap:
            dump = subprocess.Popen(["ip", "netns", "exec", self.ns["a"], "tcpdump", "-i", f"a{path}", "-s", "128", "-B", "32768", "--immediate-mode",
                                     "-w", pcap, "tcp"], stderr=subprocess.PIPE, text=True)
            dump.stderr.readline()
            self.running.append(dump)
        try:
            took_s = self.move(c, path)
        finally:
            if dump:
                time.sleep(0.3)
                dump.terminate()
                dump.wait()
                self.running.remove(dump)
            counts = self.wire_down(wire)
        return c.n_bytes / took_s, counts

    def move(self, c, path):
        host = f"198.18.{78 + path}.1" if c.family == 4 else f"fd00:f011:{78 + path}::1"
        what = f"send {c.n_bytes}" if c.sender == "us" else "take"
        listener = None
        s = self.tuned(self.socket_in("a", c.family), c)
        try:
            if c.opener == "linux":
                s.connect((host, PORT))
                begin = time.monotonic()  # a lost SYN's second is no goodput, on either side
                s.sendall(f"{what}\n".encode())
            else:
                self.n_ports += 1
                listener = self.tuned(self.socket_in("a", c.family, listen=("::" if c.family == 6 else "0.0.0.0", self.n_ports)), c)
                listener.settimeout(TRANSFER_LIMIT_S)
                with s:
                    s.connect((host, PORT))
                    s.sendall(f"dial {self.n_ports} {what}\n".encode())
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(100):
                        pass
                s, _ = listener.accept()
                s.settimeout(TRANSFER_LIMIT_S)
                begin = time.monotonic()
            if c.sender == "us":
                got = take_all(s)
            else:
                s.sendall(memoryview(PATTERN)[:c.n_bytes])
                s.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := s.recv(1000):
                    answer += piece
                got = tuple(int(w) if w.isdigit() and len(w) < 20 else w for w in answer.decode().split())
            took_s = time.monotonic() - begin
        finally:
            s.close()
            if listener:
                listener.close()
        if got != expected(c.n_bytes):
            raise RuntimeError(f"{describe(c)}: {got} came instead of {expected(c.n_bytes)}")
        return took_s


# ---- many lanes

def lane_main(number, build, jobs, results):
    """A process: takes jobs (index, cell, runs, paths, pcap prefix) until None."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Lane(f"io{os.getpid()}", build) as lane:
        while (job := jobs.get()) is not None:
            index, c, n_runs, paths, prefix = job
            result = {"index": index, "rates": {0: [], 1: []}, "wire": {0: [], 1: []}, "error": None}
            try:
                for i in range(n_runs):
                    for path in paths if i % 2 == 0 else reversed(paths):
                        rate, counts = lane.transfer(c, path, 1 + i, f"{prefix}-{path}.pcap" if prefix else None)
                        result["rates"][path].append(rate)
                        result["wire"][path].append(counts)
            except (OSError, RuntimeError, ValueError) as e:
                result["error"] = f"{'us' if path == 0 else 'Linux to Linux'}, run {i + 1}: {type(e).__name__} {e}"
            results.put(result)
        said = lane.end_peer()
        if os.environ.get("INTEROP_COUNTERS"):
            print("".join(f"# {line}\n" for line in said.splitlines()), end="", flush=True)


def run_cells(args, cells, n_runs, paths, tell, prefixes=None):
    """tell(cell, result) as they come; all results in order of the cells. Lanes are ordered by algorithm, so that peers live long."""
    jobs = [multiprocessing.Queue() for _ in range(args.lanes)]
    results = multiprocessing.Queue()
    order = sorted(range(len(cells)), key=lambda i: cells[i].cc)
    share = [order[i * len(order) // args.lanes:(i + 1) * len(order) // args.lanes] for i in range(args.lanes)]
    for lane in range(args.lanes):
        for i in share[lane]:
            jobs[lane].put((i, cells[i], n_runs, paths, prefixes[i] if prefixes else None))
        jobs[lane].put(None)
    processes = [multiprocessing.Process(target=lane_main, args=(i, args.build, jobs[i], results)) for i in range(args.lanes)]
    done = [None] * len(cells)
    try:
        for p in processes:
            p.start()
        left = len(cells)
        while left:
            try:
                r = results.get(timeout=1)
            except queue.Empty:
                if not any(p.is_alive() for p in processes):
                    raise SystemExit("interop: every lane has ended before its time")
                continue
            done[r["index"]] = r
            left -= 1
            tell(cells[r["index"]], r)
    finally:
        for p in processes:
            if left_over(done):
                p.terminate()
            p.join()
    return done


def left_over(done):
    return any(d is None for d in done)


def medians(r):
    return [statistics.median(r["rates"][p]) if r["rates"][p] else 0.0 for p in (0, 1)]


def mbs(rate):
    return f"{rate / 1e6:.2f}"


def tell_cell(c, r):
    if r["error"]:
        print(f"# FAILED {describe(c)}: {r['error']}", flush=True)
        return
    ours, linux = medians(r)
    ratio = f"{ours / linux * 100:.0f} %" if linux else ""
    runs = " ".join(mbs(x) for x in r["rates"][0]) + " | " + " ".join(mbs(x) for x in r["rates"][1])
    print(f"# {describe(c)}: {mbs(ours)} vs {mbs(linux)} MB/s {ratio}  [{runs}]", flush=True)


def path_of(c):
    """The row of a cell in the table: all but who sends and the algorithm."""
    words = [f"loss {c.loss}" if c.loss != "reorder" else "2 % overtaken by 6 ms", "IPv6" if c.family == 6 else "", f"MSS {c.mss}" if c.mss != 1460 else "",
             *(f"no {n}" for n in ("ts", "sack", "wscale") if not getattr(c, n)), "ECN" if c.ecn else "", "we open" if c.opener == "us" else ""]
    return ", ".join(w for w in words if w)


def print_table(cells, results):
    """A row a path; in each column the median with us, that of Linux to Linux, and the ratio. Columns: algorithm and who sends."""
    columns = [(cc, s) for cc in ("cubic", "bbr", "reno") for s in ("us", "linux") if any((c.cc, c.sender) == (cc, s) for c in cells)]
    rows, low = {}, []
    for c, r in zip(cells, results):
        ours, linux = medians(r)
        ratio = ours / linux if linux else 0
        rows.setdefault(path_of(c), {})[c.cc, c.sender] = f"{mbs(ours)} / {mbs(linux)}, {ratio * 100:.0f} %" if not r["error"] else "failed"
        if r["error"] or ratio < FLOOR:
            low.append(f"{describe(c)}: {r['error'] or f'{ratio * 100:.0f} %'}, runs {' '.join(map(mbs, r['rates'][0]))} | {' '.join(map(mbs, r['rates'][1]))}")
    print("| path | " + " | ".join(f"{cc}, {'we send' if s == 'us' else 'Linux sends'}" for cc, s in columns) + " |\n|" + "---|" * (len(columns) + 1))
    for path, row in rows.items():
        print(f"| {path} | " + " | ".join(row.get(column, "") for column in columns) + " |")
    print(f"\n{len(cells)} cells, {len(low)} below {FLOOR * 100:.0f} % of Linux to Linux or failed")
    for line in low:
        print("  " + line)
    return 1 if low else 0


# ---- what tshark says

PROTOCOLS = ("Ethernet", "IPv4", "IPv6", "TCP", "ICMP", "ICMPv6")  # the payload is ours, and looks like many things
EXPERT_ROW = re.compile(r"^\s*(\d+)\s+(\S+)\s+(\S+)\s+(.*\S)\s*$")


def expert(pcap):
    """{(severity, summary without numbers): how often} at warning or above."""
    text = run("tshark", "-n", "-r", pcap, "-o", "tcp.check_checksum:FALSE", "-q", "-z", "expert,warn", check=False).stdout
    found, severity = collections.Counter(), ""
    for line in text.splitlines():
        if line and not line[0].isspace() and line.split()[0] in ("Errors", "Warns", "Notes", "Chats"):
            severity = line.split()[0]
        elif (row := EXPERT_ROW.match(line)) and severity in ("Errors", "Warns") and row.group(3) in PROTOCOLS:
            found[severity, row.group(4)] += int(row.group(1))
    return found


def main_expert(args):
    cells = [c for c in expert_cells() if args.only in describe(c)]
    with tempfile.TemporaryDirectory() as tmp:
        prefixes = [os.path.join(args.keep or tmp, f"cell{i}") for i in range(len(cells))]
        results = run_cells(args, cells, 1, (0, 1), tell_cell, prefixes)
        n_bad = sum(bool(r["error"]) for r in results)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = list(pool.map(expert, [f"{p}-{path}.pcap" for p in prefixes for path in (0, 1)]))
        ours, linux = sum(said[0::2], collections.Counter()), sum(said[1::2], collections.Counter())
        print("| severity | tshark's words | with us | Linux to Linux |\n|---|---|---|---|")
        for key in sorted(set(ours) | set(linux)):
            print(f"| {key[0]} | {key[1]} | {ours[key]} | {linux[key]} |")
        n_bad += sum(key not in linux for key in ours)
    print(f"{len(cells)} transfers of each pair; {n_bad} kinds that only ours shows, or failures")
    return 1 if n_bad else 0


def main_short(args):
    """TAP. The floor is loose, and who falls below it in one run on a machine that may do other things has three more."""
    number, failed, slow = 0, 0, []

    def tell(c, r, is_last=False):
        nonlocal number, failed
        ours, linux = medians(r)
        if not r["error"] and ours < SHORT_FLOOR * linux and not is_last:
            slow.append(c)
            return
        good = not r["error"] and ours >= SHORT_FLOOR * linux
        number += 1
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {describe(c)}: sha256, and at least a quarter of Linux to Linux\n"
              f"# {mbs(ours)} MB/s, Linux to Linux {mbs(linux)}" + (f"\n# {r['error']}" if r["error"] else ""), flush=True)
    run_cells(args, [c for c in short_cells() if args.only in describe(c)], 1, (0, 1), tell)
    if slow:
        run_cells(args, slow, 3, (0, 1), lambda c, r: tell(c, r, is_last=True))
    print(f"1..{number}")
    return 1 if failed else 0


def main_table(args):
    cells = [c for c in table_cells() if args.only in describe(c)]
    began = time.monotonic()
    prefixes = [os.path.join(args.keep, f"cell{i}") for i in range(len(cells))] if args.keep else None
    results = run_cells(args, cells, args.runs, (0, 1), tell_cell, prefixes)
    print(f"# {time.monotonic() - began:.0f} s")
    if args.json:
        with open(args.json, "w") as f:
            json.dump([{**c._asdict(), **r} for c, r in zip(cells, results)], f)
    return print_table(cells, results)


def main_all(args):
    cells = [c for c in all_cells() if args.only in describe(c)]
    bad = []

    def tell(c, r):
        if r["error"]:
            bad.append(c)
            print(f"# FAILED {describe(c)}: {r['error']}", flush=True)
    began = time.monotonic()
    run_cells(args, cells, 1, (0,), tell)
    print(f"{len(cells)} combinations, {len(bad)} failed, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", os.environ.get("FOIL_BUILD", "release")))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--only", default="", help="only cells whose description has this")
    parser.add_argument("--keep", help="a folder for the captures of each cell's last run")
    parser.add_argument("--json", help="all runs, for whoever wants to compute more")
    parser.add_argument("what", choices=["short", "table", "all", "expert"])
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return {"short": main_short, "table": main_table, "all": main_all, "expert": main_expert}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())
