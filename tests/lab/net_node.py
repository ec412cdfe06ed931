#!/usr/bin/env python3
"""hydrofoil beside a Linux host on one link: duplicate addresses in both directions, next hops that come and go, and the exception path, over which
services of the kernel behind it (ssh's and BGP's ports) are reached and reach out, a switch that looks on; in TAP.

   net_node.py PATH_OF_HYDROFOIL

Needs root. Makes two namespaces of its own (netnode-PID-*) and removes them."""
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tap
from tap import ok, plan

PREFIX = f"netnode-{os.getpid()}"
US, PEER = f"{PREFIX}-us", f"{PREFIX}-peer"
SERVER = """
import socket, sys, threading
def serve(c):
    while True:
        d = c.recv(65536)
        if not d:
            break
        c.sendall(d)
    c.close()
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('ready', flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
CLIENT = """
import os, socket, sys, threading
data = os.urandom(1 << 20)
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(1)), daemon=True).start()
got = b''
while True:
    d = s.recv(65536)
    if not d:
        break
    got += d
print('same' if got == data else f'differs: {len(got)} bytes')
"""


run = functools.partial(tap.run, timeout_s=60)


def inside(ns, *args, check=False):
    return run("ip", "netns", "exec", ns, *args, check=check)


def wait_for(what, limit_s=20):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return False


def up():
    for ns in (US, PEER):
        run("ip", "netns", "add", ns)
        run("ip", "-n", ns, "link", "set", "lo", "up")
    run("ip", "-n", PEER, "link", "add", "nn-p", "type", "veth", "peer", "name", "nn-u", "netns", US)
    inside(PEER, "ethtool", "-K", "nn-p", "tx", "off", check=True)
    inside(US, "sysctl", "-qw", "net.ipv6.conf.nn-u.disable_ipv6=1")  # the kernel has no business on the data plane's interface
    run("ip", "-n", PEER, "addr", "add", "198.18.77.2/24", "dev", "nn-p")
    run("ip", "-n", PEER, "addr", "add", "fd00:f011:77::2/64", "dev", "nn-p", "nodad")
    run("ip", "-n", US, "link", "set", "nn-u", "up")
    run("ip", "-n", PEER, "link", "set", "nn-p", "up")


def down():
    for ns in (US, PEER):
        run("ip", "netns", "del", ns, check=False)


class Node:
    """hydrofoil in the namespace US, with these lines in its node file."""

    def __init__(self, program, folder, lines, addresses=("198.18.77.1/24", "fd00:f011:77::1/64")):
        self.log = os.path.join(folder, "log")
        node = os.path.join(folder, "node.yaml")
        with open(self.log, "w"):
            pass
        quoted = ", ".join(f'"{a}"' for a in addresses)
        with open(node, "w") as f:
            f.write(f"node_name: nn-{os.getpid()}\nports:\n  - uri: \"af_packet:iface=nn-u\"\n    addresses: [{quoted}]\n"
                    f"memory: {{megabytes: 128, hugepages: off, connections: 1024, requests: 256}}\nagent_socket: {folder}/agent.sock\n"
                    f"state_dir: {folder}/state\nlog: {self.log}\ndrain_s: 0\nidle: pause\n{lines}")
        self.process = subprocess.Popen(["ip", "netns", "exec", US, program, node, "--max-life", "200"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def text(self):
        with open(self.log) as f:
            return f.read()

    def says(self, *words, limit_s=30):
        return wait_for(lambda: any(all(w in line for w in words) for line in self.text().splitlines()), limit_s)

    def __enter__(self):
        if not self.says(" start "):
            self.process.kill()
            raise RuntimeError(self.text() + self.process.communicate()[1])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stderr.close()


def pings(address, n=3):
    return f" {n} received" in inside(PEER, "ping", "-n", "-c", str(n), "-i", "0.1", "-w", "15", address).stdout


def duplicates(program, folder):
    for address in ("198.18.77.1/24", "fd00:f011:77::1/64"):
        run("ip", "-n", PEER, "addr", "add", address, "dev", "nn-p", *(["nodad"] if ":" in address else []))
    addresses = ("198.18.77.1/24", "198.18.77.5/24", "fd00:f011:77::1/64", "fd00:f011:77::5/64")
    for how in ("optimistic", "strict"):
        with Node(program, folder, f"address_check: {how}\n", addresses) as node:
            for address in ("198.18.77.1", "fd00:f011:77::1"):
                ok(node.says("address.duplicate", address + " on p0"), f"{how}: {address}, which Linux has, is given up", node.text())
            for address in ("198.18.77.5", "fd00:f011:77::5"):
                ok(pings(address), f"{how}: {address}, which nobody has, answers", node.text())
            ok(node.text().count("address.duplicate") == 2, f"{how}: no other address is given up", node.text())
    for address in ("198.18.77.1/24", "fd00:f011:77::1/64"):
        run("ip", "-n", PEER, "addr", "del", address, "dev", "nn-p")


ROUTES = """routes:
  - {to: "203.0.113.0/24", via: "198.18.77.2"}
  - {to: "203.0.113.0/24", via: "198.18.77.3"}
  - {to: "2001:db8::/32", via: "fd00:f011:77::3"}
"""


def linux_and_us(program, folder):
    with Node(program, folder, ROUTES) as node:
        ok(pings("198.18.77.1") and pings("fd00:f011:77::1"), "both families answer", node.text())
        run("ip", "-n", PEER, "addr", "add", "fd00:f011:77::1/64", "dev", "nn-p")
        failed_dad = wait_for(lambda: "dadfailed" in run("ip", "-n", PEER, "-6", "addr", "show", "dev", "nn-p").stdout)
        ok(failed_dad, "Linux finds our IPv6 address taken", run("ip", "-n", PEER, "-6", "addr", "show", "dev", "nn-p").stdout)
        run("ip", "-n", PEER, "addr", "del", "fd00:f011:77::1/64", "dev", "nn-p")
        for address in ("198.18.77.3", "fd00:f011:77::3"):
            ok(node.says("route.down", address), f"next hop {address}, which is not there, is said to be down", node.text())
        ok("198.18.77.2 on" not in node.text(), "the one that answers is not", node.text())
        run("ip", "-n", PEER, "addr", "add", "198.18.77.3/24", "dev", "nn-p")
        run("ip", "-n", PEER, "addr", "add", "fd00:f011:77::3/64", "dev", "nn-p", "nodad")
        for address in ("198.18.77.3", "fd00:f011:77::3"):
            ok(node.says("route.up", address), f"next hop {address}, which has come, is said to be up", node.text())


def link_local_router(program, folder):
    """The way to another network by a router's link-local address, as IPv6 networks have it."""
    run("ip", "-n", PEER, "addr", "add", "fe80::77/64", "dev", "nn-p", "nodad")
    run("ip", "-n", PEER, "addr", "add", "2001:db8:77::1/128", "dev", "lo")
    with Node(program, folder, 'routes: [{to: "::/0", via: "fe80::77"}]\n') as node:
        done = inside(PEER, "ping", "-n", "-c", "3", "-i", "0.1", "-w", "15", "-I", "2001:db8:77::1", "fd00:f011:77::1").stdout
        ok(" 3 received" in done, "a network behind a router with a link-local address is answered", done + node.text())
    run("ip", "-n", PEER, "addr", "del", "2001:db8:77::1/128", "dev", "lo")


def server(ns, address, port):
    p = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", SERVER, address, str(port)], stdout=subprocess.PIPE, text=True)
    p.stdout.readline()
    return p


def echo(ns, address, port):
    return inside(ns, sys.executable, "-c", CLIENT, address, str(port))


def exception_path(program, folder):
    with Node(program, folder, "exception_path: true\n") as node:
        tap = "foil-tap0"
        ok(wait_for(lambda: run("ip", "-n", US, "link", "show", tap, check=False).returncode == 0), "the exception path's device is there", node.text())
        run("ip", "-n", US, "addr", "add", "198.18.77.9/24", "dev", tap)
        run("ip", "-n", US, "addr", "add", "fd00:f011:77::9/64", "dev", tap, "nodad")
        run("ip", "-n", US, "link", "set", tap, "up")
        ok(pings("198.18.77.9") and pings("fd00:f011:77::9"), "the kernel behind the data plane answers pings", node.text())
        ok(pings("198.18.77.1") and pings("fd00:f011:77::1"), "and the data plane its own", node.text())
        servers = [server(US, "198.18.77.9", 22), server(US, "198.18.77.9", 179), server(US, "fd00:f011:77::9", 179),
                   server(PEER, "198.18.77.2", 179), server(PEER, "fd00:f011:77::2", 179)]
        try:
            for ns, address, port, text in ((PEER, "198.18.77.9", 22, "like ssh: a megabyte to port 22 of the kernel and back"),
                                            (PEER, "198.18.77.9", 179, "like BGP: a neighbour opens a session to the kernel"),
                                            (PEER, "fd00:f011:77::9", 179, "the same over IPv6"),
                                            (US, "198.18.77.2", 179, "like BGP: the kernel opens one to a neighbour whom we know, too"),
                                            (US, "fd00:f011:77::2", 179, "the same over IPv6")):
                done = echo(ns, address, port)
                ok(done.stdout.strip() == "same", text, done.stdout + done.stderr)
            inside(PEER, "ip", "neigh", "flush", "dev", "nn-p")
            inside(US, "ip", "neigh", "flush", "dev", tap)
            ok(pings("198.18.77.9") and pings("198.18.77.1"), "after both sides forgot their neighbours, each is found again", node.text())
            refused = inside(PEER, sys.executable, "-c", "import socket\ns=socket.socket()\ns.settimeout(5)\n"
                             "try: s.connect(('198.18.77.1', 22))\nexcept ConnectionRefusedError: print('refused')").stdout
            ok("refused" in refused, "a TCP port of our own address stays ours: nobody listens there", refused)
        finally:
            for p in servers:
                p.kill()
                p.wait()
                p.stdout.close()


def snooping_switch(program, folder):
    """Linux's bridge, which forwards a group only where somebody wants it, and asks who does."""
    run("ip", "-n", PEER, "link", "add", "br0", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1", "mcast_query_response_interval", "50",
        "mcast_startup_query_interval", "100", "mcast_startup_query_count", "20")
    for version in ("2", "1"):
        run("ip", "-n", PEER, "link", "set", "br0", "type", "bridge", "mcast_mld_version", version)
        run("ip", "-n", PEER, "link", "set", "br0", "up")
        group = ("ff02::1:ff00:1", "nn-p")

        def knows():
            return any(all(w in line for w in group) for line in inside(PEER, "bridge", "mdb", "show").stdout.splitlines())
        with Node(program, folder, "") as node:
            time.sleep(2)  # what is told at the start has gone by: now only an answer helps
            run("ip", "-n", PEER, "link", "set", "nn-p", "master", "br0")
            ok(wait_for(knows, 40), f"a switch with an MLDv{version} querier learns in which group our IPv6 address is looked for",
               inside(PEER, "bridge", "mdb", "show").stdout + node.text())
        run("ip", "-n", PEER, "link", "set", "nn-p", "nomaster")
    run("ip", "-n", PEER, "link", "del", "br0")


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    if not os.path.exists("/dev/net/tun"):
        print("1..0 # SKIP no /dev/net/tun")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="foil-net-node-", dir="/var/tmp")
    try:
        up()
        for scenario in (duplicates, linux_and_us, link_local_router, exception_path, snooping_switch):
            scenario(os.path.abspath(sys.argv[1]), folder)
    finally:
        down()
        shutil.rmtree(folder, ignore_errors=True)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
