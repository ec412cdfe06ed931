#!/usr/bin/env python3
"""Linux's TCP talks to ours over af_packet, both roles, IPv4 and IPv6; in TAP.

   tcp_echo.py [--keep DIR] [--only WORD] PATH_OF_TCP_ECHO [N_WORKERS]

Needs root. Makes two namespaces of its own (tcptest-PID-*) and removes them. Every run is captured, and tshark's expert looks for what a
clean wire must not show: malformed segments, bad checksums, retransmissions, resets that no test caused."""
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import tap
from tap import ok, plan, run

PREFIX = f"tcptest-{os.getpid()}"
US, PEER = f"{PREFIX}-us", f"{PREFIX}-peer"
V4, V6 = "198.18.78.1", "fd00:f011:78::1"
ME4, ME6 = "198.18.78.2", "fd00:f011:78::2"
ECHO, SLOW, SINK, RELAY, CLOSER, ABORTER, SOURCE = 7, 8, 9, 10, 11, 12, 19
PERIOD = 251 * 256


def pattern(n):
    one = bytes((i * 131 + i // 251) & 255 for i in range(PERIOD))
    return (one * (n // PERIOD + 1))[:n]


def connect(port, host=V4, rcvbuf=0):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(20)
    s.connect((host, port))
    return s


def read_all(s):
    h, n = hashlib.sha256(), 0
    while True:
        b = s.recv(1 << 18)
        if not b:
            return h.hexdigest(), n
        h.update(b)
        n += len(b)


def send_all(s, data):
    def work():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=work)
    t.start()
    return t


def transfer(port, data, host=V4):
    """Sends data, reads until the end: sha256 and length of what came, and seconds."""
    begin = time.monotonic()
    with connect(port, host) as s:
        t = send_all(s, data)
        got = read_all(s)
        t.join()
    return got, time.monotonic() - begin


def sha(data):
    return hashlib.sha256(data).hexdigest(), len(data)


def rate(n, seconds):
    return f"{n / seconds / 1e6:.0f} MB/s"


# What runs inside the peer's namespace. A test's name is its line in TAP.

def test_hello(host):
    for n in (1, 2, 100, 1447, 1448, 1449, 70000):
        got, _ = transfer(ECHO, pattern(n), host)
        ok(got == sha(pattern(n)), f"{host}: {n} bytes are echoed, our FIN last", got)


def test_close_orders(host):
    with connect(CLOSER, host) as s:
        ok(s.recv(10) == b"", f"{host}: we close first, the client sees the end")
    with connect(ECHO, host) as s:
        s.sendall(b"half")
        s.shutdown(socket.SHUT_WR)
        ok(s.recv(10) + s.recv(10) == b"half", f"{host}: the client's half-close: what was sent before still comes back")
    with connect(SOURCE, host) as s:
        s.sendall(b"100000\n")
        s.shutdown(socket.SHUT_WR)
        ok(read_all(s) == sha(pattern(100000)), f"{host}: the source sends on after the client's FIN")
    with connect(SOURCE, host) as s:
        s.sendall(b"5\n")
        got = read_all(s)
        time.sleep(0.2)
        s.sendall(b"late")
        ok(got == sha(pattern(5)), f"{host}: our half-close first, the client's bytes after it are taken")


def test_refused(host):
    try:
        connect(4242, host)
        ok(False, f"{host}: a port without a listener is refused")
    except ConnectionRefusedError:
        ok(True, f"{host}: a port without a listener is refused")


def test_resets(host):
    s = connect(ABORTER, host)
    s.sendall(b"x")
    try:
        s.recv(1)
        ok(False, f"{host}: an abort reaches the client as a reset")
    except ConnectionResetError:
        ok(True, f"{host}: an abort reaches the client as a reset")
    s = connect(ECHO, host)
    s.sendall(b"x" * 10000)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    with connect(ECHO, host) as s:
        s.sendall(b"still here")
        ok(s.recv(100) == b"still here", f"{host}: a client's reset ends only its own connection")


def test_bulk(host, n_mb):
    data = os.urandom(1 << 20) * n_mb
    got, t = transfer(ECHO, data, host)
    ok(got == sha(data), f"{host}: {n_mb} MB echoed, sha256 right", got)
    print(f"# echo both ways {rate(len(data), t)}")
    got, t = transfer(SINK, data, host)
    ok(got == sha(b"%d\n" % len(data)), f"{host}: {n_mb} MB taken by the sink", got)
    print(f"# to us {rate(len(data), t)}")
    begin = time.monotonic()
    with connect(SOURCE, host) as s:
        s.sendall(b"%d\n" % len(data))
        got = read_all(s)
    t = time.monotonic() - begin
    ok(got == sha(pattern(len(data))), f"{host}: {n_mb} MB from the source, sha256 right", got)
    print(f"# from us {rate(len(data), t)}")


def test_many(host, n):
    begin = time.monotonic()
    for i in range(n):
        with connect(ECHO, host) as s:
            msg = b"connection %d" % i
            s.sendall(msg)
            if s.recv(100) != msg:
                ok(False, f"{host}: {n} connections one after the other", f"at {i}")
                return
    t = time.monotonic() - begin
    ok(True, f"{host}: {n} connections one after the other")
    print(f"# {n / t:.0f} connections a second")


def test_slow_reader(host):
    """Our window closes towards a client that is faster than its reader; and the client's towards us."""
    data = os.urandom(4 << 20)
    got, t = transfer(SLOW, data, host)
    ok(got == sha(data), f"{host}: 4 MB through a slow reader of ours", got)
    with connect(SOURCE, host, rcvbuf=20000) as s:
        s.sendall(b"1000000\n")
        time.sleep(2.5)  # zero window, probes
        h, n = hashlib.sha256(), 0
        while True:
            b = s.recv(5000)
            if not b:
                break
            h.update(b)
            n += len(b)
            time.sleep(0.001)
        ok((h.hexdigest(), n) == sha(pattern(1000000)), f"{host}: 1 MB to a client that reads slowly, after 2.5 s of zero window", n)


def backend(listener, n_conns):
    def serve(s):
        while True:
            b = s.recv(1 << 16)
            if not b:
                s.shutdown(socket.SHUT_WR)
                s.close()
                return
            s.sendall(b)
    for _ in range(n_conns):
        s, _ = listener.accept()
        s.settimeout(20)
        threading.Thread(target=serve, args=(s,), daemon=True).start()


def test_relay():
    """Our active opens: a Linux echo server behind us."""
    with socket.create_server((ME4, 7000), backlog=128) as listener:
        threading.Thread(target=backend, args=(listener, 101), daemon=True).start()
        data = os.urandom(20 << 20)
        got, t = transfer(RELAY, data)
        ok(got == sha(data), "20 MB through the relay and back, half-closes passed on", got)
        print(f"# relayed both ways {rate(len(data), t)}")
        for i in range(100):
            got, _ = transfer(RELAY, b"hello %d" % i)
            if got != sha(b"hello %d" % i):
                break
        ok(i == 99 and got == sha(b"hello 99"), "100 relayed connections", (i, got))
    time.sleep(0.1)
    try:
        with connect(RELAY) as s:
            got = s.recv(1)
            ok(False, "a refused backend becomes a reset", got)
    except ConnectionResetError:
        ok(True, "a refused backend becomes a reset")


def test_ecn(host):
    """Linux asks for ECN and uses it."""
    with open("/proc/sys/net/ipv4/tcp_ecn") as f:
        before = f.read()
    with open("/proc/sys/net/ipv4/tcp_ecn", "w") as f:
        f.write("1")
    data = os.urandom(5 << 20)
    got, _ = transfer(ECHO, data, host)
    ok(got == sha(data), f"{host}: 5 MB echoed with ECN", got)
    with open("/proc/sys/net/ipv4/tcp_ecn", "w") as f:
        f.write(before)


def test_parallel(n):
    data = os.urandom(200000)
    socks = [connect(ECHO) for _ in range(n)]
    threads = [send_all(s, data) for s in socks]
    good = 0
    for s in socks:
        good += read_all(s) == sha(data)
        s.close()
    for t in threads:
        t.join()
    ok(good == n, f"{n} connections at once, 200 kB each", good)


def inside(only):
    tests = [(f"{t.__name__} {h}", t, (h, *a)) for h in (V4, V6) for t, *a in
             ((test_hello,), (test_close_orders,), (test_refused,), (test_bulk, 100), (test_many, 1000 if h == V4 else 200), (test_slow_reader,))]
    tests += [(f"test_ecn {h}", test_ecn, (h,)) for h in (V4, V6)]
    tests += [("test_relay", test_relay, ()), ("test_parallel", test_parallel, (100,))]
    tests += [(f"test_resets {h}", test_resets, (h,)) for h in (V4, V6)]
    for name, test, args in tests:
        if only in name:
            try:
                test(*args)
            except OSError as e:
                ok(False, f"{name} {args}", repr(e))
    print(f"# count {tap.n} failed {tap.n_failed}")
    return 0


# What runs outside: namespaces, our program, capture, verdict.

def up():
    run("ip", "netns", "add", US)
    run("ip", "netns", "add", PEER)
    run("ip", "-n", PEER, "link", "add", "tt-p", "type", "veth", "peer", "name", "tt-u", "netns", US)
    run("ip", "netns", "exec", PEER, "ethtool", "-K", "tt-p", "tx", "off", "gro", "off", "gso", "off", "tso", "off")
    run("ip", "-n", PEER, "addr", "add", f"{ME4}/24", "dev", "tt-p")
    run("ip", "-n", PEER, "addr", "add", f"{ME6}/64", "dev", "tt-p", "nodad")
    run("ip", "-n", US, "link", "set", "tt-u", "up")
    run("ip", "-n", PEER, "link", "set", "tt-p", "up")
    run("ip", "-n", PEER, "link", "set", "lo", "up")


def down():
    for ns in (US, PEER):
        run("ip", "netns", "del", ns, check=False)


def tshark_lines(pcap, what):
    return [l for l in run("tshark", "-n", "-r", pcap, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", what,
                           check=False).stdout.splitlines() if l]


def judge_capture(pcap):
    ours = f"(ip.src == {V4} || ipv6.src == {V6})"
    for name, what in (("malformed packet", "_ws.malformed"), ("wrong checksum", f"(tcp.checksum.status == 0 || ip.checksum.status == 0) && {ours}"),
                       ("ACK of ours for what was never sent", f"tcp.analysis.ack_lost_segment && {ours}")):
        lines = tshark_lines(pcap, what)
        ok(not lines, f"the capture shows no {name}", "\n".join(lines[:10]))
    # A peer that is not on its CPU for some milliseconds looks like a lost tail: probes (RFC 8985 7) happen, and are few.
    probes = tshark_lines(pcap, f"tcp.analysis.retransmission && !tcp.analysis.window_full && {ours}")
    print(f"# {len(probes)} retransmissions of ours")
    ok(len(probes) <= 300, "the capture shows hardly a retransmission of ours", "\n".join(probes[:10]))
    resets = tshark_lines(pcap, f"tcp.flags.reset == 1 && {ours} && tcp.srcport != {ABORTER} && tcp.srcport != 4242 && tcp.srcport != {ECHO}"
                          f" && tcp.srcport != {RELAY}")
    ok(not resets, "the capture shows no reset that no test caused", "\n".join(resets[:10]))


def judge_end(out):
    ok("tcp conns 0 half_open 0 time_wait 0" in out, "no connection is left", out)
    pools = re.search(r"^pools mbuf (\d+) of (\d+) indirect (\d+) of (\d+)", out, re.M)
    ok(pools and pools[1] == pools[2] and pools[3] == pools[4], "every mbuf came home", pools and pools[0])
    for line in out.splitlines():
        print(f"# {line}")


def main():
    args = sys.argv[1:]
    if args and args[0] == "--inside":
        return inside(args[1])
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    only = args.pop(args.index("--only") + 1) if "--only" in args else ""
    keep = args.pop(args.index("--keep") + 1) if "--keep" in args else None
    program, n_workers = [a for a in args if not a.startswith("--")][:2] if len([a for a in args if not a.startswith("--")]) > 1 else (
        [a for a in args if not a.startswith("--")][0], "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as tmp:
        pcap = os.path.join(keep or tmp, "tcp_echo.pcap")
        try:
            up()
            dump = subprocess.Popen(["ip", "netns", "exec", PEER, "tcpdump", "-i", "tt-p", "-s", "120", "-B", "65536", "-U", "-w", pcap],
                                    stderr=subprocess.DEVNULL)
            p = subprocess.Popen(["ip", "netns", "exec", US, program, "af_packet:iface=tt-u", "600", "pause", n_workers, ME4,
                                  f"{V4}/24", f"{V6}/64"], stdout=subprocess.PIPE, text=True)
            line = p.stdout.readline().strip()
            if line != "ready":
                raise RuntimeError(f"tcp_echo said {line!r} instead of ready")
            time.sleep(0.5)
            inner = subprocess.Popen(["ip", "netns", "exec", PEER, sys.executable, os.path.abspath(__file__), "--inside", only],
                                     stdout=subprocess.PIPE, text=True)
            for line in inner.stdout:
                if line.startswith("# count"):
                    tap.n, tap.n_failed = (int(x) for x in re.findall(r"\d+", line))
                else:
                    print(line, end="", flush=True)
            inner.wait()
            ok(inner.returncode == 0, "the clients came to their end")
            time.sleep(3)  # TIME-WAIT and lingering end
            dump.terminate()
            dump.wait()
            p.terminate()
            out = p.communicate(timeout=60)[0]
            ok(p.returncode == 0, "clean end", p.returncode)
            judge_end(out)
            if not only or keep:
                judge_capture(pcap)
        finally:
            down()
    return plan()


if __name__ == "__main__":
    sys.exit(main())
