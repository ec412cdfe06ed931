#!/usr/bin/env python3
"""Linux pings the network layer over af_packet, IPv4 and IPv6, and is refused at a UDP port; in TAP.

   net_ping.py PATH_OF_NET_PING

Needs root. Makes two namespaces of its own (nettest-PID-*) and removes them."""
import os
import re
import signal
import subprocess
import sys
import time

from tap import ok, plan, run

PREFIX = f"nettest-{os.getpid()}"
US, PEER = f"{PREFIX}-us", f"{PREFIX}-peer"


def peer(*args, check=False):
    return run("ip", "netns", "exec", PEER, *args, check=check)


def up():
    run("ip", "netns", "add", US)
    run("ip", "netns", "add", PEER)
    run("ip", "-n", PEER, "link", "add", "nt-p", "type", "veth", "peer", "name", "nt-u", "netns", US)
    peer("ethtool", "-K", "nt-p", "tx", "off", check=True)
    run("ip", "-n", PEER, "addr", "add", "198.18.77.2/24", "dev", "nt-p")
    run("ip", "-n", PEER, "addr", "add", "fd00:f011:77::2/64", "dev", "nt-p", "nodad")
    run("ip", "-n", US, "link", "set", "nt-u", "up")
    run("ip", "-n", PEER, "link", "set", "nt-p", "up")


def down():
    for ns in (US, PEER):
        run("ip", "netns", "del", ns, check=False)


def start(program, mode, n_workers, seconds):
    p = subprocess.Popen(["ip", "netns", "exec", US, program, "af_packet:iface=nt-u", str(seconds), mode, str(n_workers),
                          "198.18.77.1/24", "fd00:f011:77::1/64"], stdout=subprocess.PIPE, text=True)
    line = p.stdout.readline().strip()
    if line != "ready":
        raise RuntimeError(f"net_ping said {line!r} instead of ready")
    return p


def ping(address, size):
    # With -w ping waits for five answers; without it for twice the longest so far, which a busy machine outlasts.
    done = peer("ping", "-n", "-c", "5", "-i", "0.05", "-w", "10", "-s", str(size), address)
    return " 5 received" in done.stdout, done.stdout + done.stderr


def refused():
    """A connected UDP socket of the peer learns by ICMP that nobody listens."""
    code = ("import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(3)\n"
            "s.connect(('198.18.77.1',9))\ns.send(b'x')\n"
            "try: s.recv(9)\nexcept ConnectionRefusedError: print('refused')")
    return "refused" in peer(sys.executable, "-c", code).stdout


def scenario(program, mode, n_workers):
    p, began = start(program, mode, n_workers, 120), time.monotonic()
    for address in ("198.18.77.1", "fd00:f011:77::1"):
        for size in (0, 56, 1400):
            good, detail = ping(address, size)
            ok(good, f"{mode}, {n_workers} worker(s): {address} answers pings of {size} bytes", detail)
    if mode == "interrupt" and n_workers == 1:
        ok(refused(), "a UDP port that nobody listens at is refused")
        known = peer("ip", "neigh", "show", "to", "198.18.77.1").stdout
        ok("lladdr" in known, "the peer knows our link-layer address", known)
    p.terminate()  # how long pings take is the machine's affair: the program ends when they have
    out = p.communicate(timeout=30)[0]
    lived_s = time.monotonic() - began
    ok(p.returncode == 0, f"{mode}, {n_workers} worker(s): clean end", out)
    ok("reason bad_checksum" not in out and "reason ip4_checksum" not in out, "no checksum was found wrong", out)
    for cpu in re.findall(r"^worker (\d+) cpu_us (\d+)", out, re.M):
        print(f"# {mode}: worker {cpu[0]} used {int(cpu[1]) / lived_s / 10000:.1f} % of a core, pings included")


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        up()
        for mode, n_workers in (("interrupt", 1), ("pause", 1), ("interrupt", 2)):
            scenario(sys.argv[1], mode, n_workers)
    finally:
        down()
    return plan()


if __name__ == "__main__":
    sys.exit(main())
