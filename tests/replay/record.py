#!/usr/bin/env python3
"""How the captures were made: Linux's TCP on both sides, in two namespaces, recorded at the server's interface; loss is a slow
hop's between them. Not part of the tests; run as root to make them anew:   record.py DIR"""
import os
import subprocess
import sys
import time

A, B, M = "replay-a", "replay-b", "replay-m"
NET = {A: ("198.18.79", "fd00:f011:79"), B: ("198.18.80", "fd00:f011:80")}
HOST = {"4": "198.18.79.1", "6": "fd00:f011:79::1"}


def run(text):
    subprocess.run(text.split(), check=True, capture_output=True)


def up():
    """Two hosts with a router between them, which is 254 and fe on either side."""
    for ns in (A, B, M):
        run(f"ip netns add {ns}")
    for ns, dev in ((A, "rp-a"), (B, "rp-b")):
        v4, v6 = NET[ns]
        run(f"ip -n {ns} link add {dev} type veth peer name m-{dev} netns {M}")
        for n, d, last in ((ns, dev, "1"), (M, f"m-{dev}", "254")):
            run(f"ip netns exec {n} ethtool -K {d} tx off gro off gso off tso off")
            run(f"ip -n {n} addr add {v4}.{last}/24 dev {d}")
            run(f"ip -n {n} addr add {v6}::{'fe' if last == '254' else '1'}/64 dev {d} nodad")
            run(f"ip -n {n} link set {d} up")
    for ns in (A, B):
        run(f"ip -n {ns} route add default via {NET[ns][0]}.254")
        run(f"ip -n {ns} -6 route add default via {NET[ns][1]}::fe")
    run(f"ip netns exec {M} sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")


def down():
    for ns in (A, B, M):
        subprocess.run(["ip", "netns", "del", ns], capture_output=True)


def narrow():
    """A slow hop with a short queue towards the server: what does not fit is lost."""
    run(f"ip netns exec {M} tc qdisc add dev m-rp-a root tbf rate 20mbit burst 3000 limit 9000")


def widen():
    subprocess.run(["ip", "netns", "exec", M, "tc", "qdisc", "del", "dev", "m-rp-a", "root"], capture_output=True)


# One conversation: SERVER and CLIENT are python source, run in their namespaces with HOST set.
TALKS = {
    "echo4": ("4", False, "c,_=l.accept()\nwhile True:\n b=c.recv(65536)\n if not b: break\n c.sendall(b)\nc.close()",
              "for i in range(5):\n s.sendall(b'message %d ' % i * 20)\n s.recv(65536)\n time.sleep(0.01)\ns.shutdown(1)\ns.recv(10)"),
    "echo6": ("6", False, "c,_=l.accept()\nwhile True:\n b=c.recv(65536)\n if not b: break\n c.sendall(b)\nc.close()",
              "for i in range(5):\n s.sendall(b'message %d ' % i * 20)\n s.recv(65536)\n time.sleep(0.01)\ns.shutdown(1)\ns.recv(10)"),
    "upload-loss": ("4", True, "c,_=l.accept()\nn=0\nwhile True:\n b=c.recv(1<<20)\n if not b: break\n n+=len(b)\nc.sendall(b'%d' % n)\nc.close()",
                    "s.sendall(bytes(range(256))*240)\ns.shutdown(1)\ns.recv(100)"),
    "download": ("4", False, "c,_=l.accept()\nc.recv(100)\nc.sendall(bytes(range(256))*120)\nc.close()",
                 "s.sendall(b'give')\nn=0\nwhile True:\n b=s.recv(65536)\n if not b: break\n n+=len(b)"),
    "slow-client": ("4", False, "c,_=l.accept()\nc.sendall(bytes(range(256))*150)\nc.close()",
                    "time.sleep(1.2)\nwhile True:\n b=s.recv(3000)\n if not b: break\n time.sleep(0.002)"),
    "client-resets": ("4", False, "c,_=l.accept()\ntry:\n while c.recv(1000): pass\nexcept OSError: pass",
                      "s.sendall(b'x'*100)\ntime.sleep(0.05)\ns.setsockopt(1,13,b'\\1\\0\\0\\0\\0\\0\\0\\0')\ns.close()"),
    "both-close": ("6", False, "c,_=l.accept()\nc.sendall(b'bye')\nc.shutdown(1)\nc.recv(100)\nc.recv(100)",
                   "s.sendall(b'bye')\ns.shutdown(1)\nwhile s.recv(100): pass"),
}


def talk(name, family, is_narrow, server, client, folder):
    host = HOST[family]
    common = f"import socket,time\nf=socket.AF_INET6 if ':' in '{host}' else socket.AF_INET\n"
    server = common + f"l=socket.create_server(('{host}',7000),family=f)\nprint('up',flush=True)\n" + server
    client = (common + "s=socket.socket(f)\n" + ("s.setsockopt(1,8,8000)\n" if name == "slow-client" else "") + f"s.connect(('{host}',7000))\n" + client)
    for ns in (A, B):
        subprocess.run(["ip", "-n", ns, "neigh", "flush", "all"], capture_output=True)
    dump = subprocess.Popen(["ip", "netns", "exec", A, "tcpdump", "-i", "rp-a", "-U", "--time-stamp-precision=micro", "-w",
                             os.path.join(folder, f"{name}.pcap"), "tcp or arp or icmp6"], stderr=subprocess.PIPE, text=True)
    while "listening" not in dump.stderr.readline():
        pass
    time.sleep(0.2)
    s = subprocess.Popen(["ip", "netns", "exec", A, sys.executable, "-c", server], stdout=subprocess.PIPE)
    s.stdout.readline()
    if is_narrow:
        narrow()
    subprocess.run(["ip", "netns", "exec", B, sys.executable, "-c", client], timeout=30)
    s.wait(timeout=30)
    time.sleep(0.5)
    widen()
    dump.terminate()
    dump.wait()


def main():
    folder = sys.argv[1]
    try:
        up()
        time.sleep(1)
        for name, (family, is_narrow, server, client) in TALKS.items():
            talk(name, family, is_narrow, server, client, folder)
            print(name)
    finally:
        down()


if __name__ == "__main__":
    main()
