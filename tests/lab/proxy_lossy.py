#!/usr/bin/env python3
"""curl and wrk through the proxy over a bad wire, beside HAProxy on its own copy of the same wire, in the same run.

    proxy_lossy.py [--runs N] [--loss PCT] [--rtt MS] [--rate MBIT] [--congestion cubic,bbr] [--seconds S]

The clients stand behind tests/lab/impair: 1 % of the frames lost each way and 50 ms of round trip. Hydrofoil is the lab's own (FOIL_BUILD says of
which build), HAProxy stands in a namespace of its own with the same congestion control set by route; both go to one nginx over clean links.
Rounds alternate. A request that fails, or a body whose sha256 is not right, fails the run. Exit status 1: a failure, or goodput below 90 % of HAProxy's.
Needs root, haproxy, nginx, curl and wrk."""
import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

from foilrun import build, lab  # noqa: E402

FLOOR = 0.9
HOST = "198.18.0.1"  # of the proxy, on either wire
NEAR_PORT = 8080
OFF = "tx off tso off gso off gro off".split()
CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: all, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin, namespace: app}
spec:
  hosts: [origin.test]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 198.19.0.10}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: app}
spec:
  hosts: ["*"]
  gateways: [istio-system/all]
  http: [{route: [{destination: {host: origin.test, port: {number: 8080}}}], retries: {attempts: 0}, timeout: 0s}]
"""
HAPROXY = """
global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 120s
  http-reuse always
frontend f
  bind 198.18.0.1:80
  default_backend b
backend b
  server s 198.19.1.10:8080
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; sendfile on; client_max_body_size 1g;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 8080 backlog=4096; root {folder}/www; location /put {{ dav_methods PUT; client_body_in_file_only off; }} }} }}
"""


def run(*words, check=True, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


def inside(ns, *words):
    return ["ip", "netns", "exec", ns, *words]


class Path:
    """The clients' namespace of one proxy, and the wire to it. near: the namespace that has the proxy's link, dev: its end there."""

    def __init__(self, name, near, dev, congestion):
        self.name, self.near, self.dev, self.far, self.wire = name, near, dev, f"far-{name}", None
        run("ip", "netns", "add", self.far)
        run("ip", "-n", self.far, "link", "set", "lo", "up")
        run("ip", "-n", near, "addr", "flush", "dev", dev)
        run("ip", "-n", self.far, "link", "add", "x1", "type", "veth", "peer", "name", "x0", "netns", near)
        for ns, one in ((self.far, "x1"), (near, "x0")):
            run(*inside(ns, "ethtool", "-K", one, *OFF))
            run("ip", "-n", ns, "link", "set", one, "txqueuelen", "10000", "up")
        run(*inside(near, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=8", f"net.ipv6.conf.{dev}.disable_ipv6=1", "net.ipv6.conf.x0.disable_ipv6=1"))
        run("ip", "-n", self.far, "addr", "add", "198.18.0.2/24", "dev", "x1")
        run("ip", "-n", self.far, "route", "replace", "198.18.0.0/24", "dev", "x1", "src", "198.18.0.2", "congctl", congestion)
        run(*inside(self.far, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_ecn=0"))

    def wire_up(self, spec, seed):
        program = os.path.join(build.folder(os.environ.get("FOIL_BUILD", "release")), "tests/lab/impair/impair")
        self.wire = subprocess.Popen(inside(self.near, program, "-s", str(seed), self.dev, "x0", "both=" + spec), stdout=subprocess.PIPE, text=True)
        if self.wire.stdout.readline() != "ready\n":
            raise RuntimeError("impair did not get ready")

    def wire_down(self):
        if self.wire:
            self.wire.terminate()
            self.wire.communicate(timeout=10)
            self.wire = None

    def down(self):
        self.wire_down()
        run("ip", "netns", "del", self.far, check=False)

    # what the clients do; each: (goodput in bytes a second, failures)

    def curl(self, n, *words):
        """n curls at once, {i} in a word is the number: the time from the last one's start of connecting to its end but for the handshake (a lost
        SYN's second is no goodput), and what went wrong."""
        ps = [subprocess.Popen(inside(self.far, "curl", "-sS", "--fail", "--max-time", "120", "-w", "%{stderr}%{time_total} %{time_connect}\n",
                                      *(w.replace("{i}", str(i)) for w in words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
              for i in range(n)]
        took_s, bad = 0.001, []
        for p in ps:
            text = p.communicate()[1]
            if p.returncode:
                bad.append(text.strip())
            else:
                total_s, connect_s = map(float, text.split()[-2:])
                took_s = max(took_s, total_s - connect_s)
        return took_s, bad

    def download(self, args, n=4):
        took_s, bad = self.curl(n, "-o", f"{args.folder}/got{{i}}", f"http://{HOST}/body")
        bad += [f"wrong bytes in {i}" for i in range(n) if not bad and sha256(f"{args.folder}/got{i}") != args.sha256]
        return n * args.n_bytes / took_s, bad

    def upload(self, args, n=4):
        took_s, bad = self.curl(n, "-H", "Expect:", "-T", f"{args.folder}/www/body", f"http://{HOST}/put/{self.name}{{i}}")
        bad += [f"wrong bytes in {i}" for i in range(n) if not bad and sha256(f"{args.folder}/www/put/{self.name}{i}") != args.sha256]
        return n * args.n_bytes / took_s, bad

    def wrk(self, args, path, connections):
        done = run(*inside(self.far, "wrk", "-t", "1", "-c", str(connections), "-d", f"{args.seconds}s", "--timeout", "30s", f"http://{HOST}{path}"), check=False)
        rate = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", done.stdout)
        if not rate:
            return 0.0, [done.stdout + done.stderr]
        bad = re.findall(r"Socket errors.*|Non-2xx.*", done.stdout)
        return float(rate.group(1)) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[rate.group(2)], bad


WORKS = {
    "curl, 4 downloads at once": lambda p, a: p.download(a),
    "curl, 4 uploads at once": lambda p, a: p.upload(a),
    "wrk, 16 connections, 100 kB": lambda p, a: p.wrk(a, "/large", 16),
    "wrk, 64 connections, 1 kB": lambda p, a: p.wrk(a, "/small", 64),
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write(path, data):
    with open(path, "wb" if isinstance(data, bytes) else "w") as f:
        f.write(data)


class Setup:
    """Hydrofoil's lab, HAProxy's copy of it, and the origin of both."""

    def __init__(self, args, congestion):
        self.args, self.congestion, self.processes, self.paths = args, congestion, [], []
        self.kernels = "reno" if congestion == "newreno" else congestion  # by route: a namespace may not choose a default that init's has not allowed

    def __enter__(self):
        folder = self.args.folder
        os.makedirs(folder + "/config", exist_ok=True)
        write(folder + "/config/mesh.yaml", CONFIG)
        with open(lab.DEFAULT_NODE) as f:
            write(folder + "/node.yaml", f.read() + f"\ntcp: {{congestion: {self.congestion}}}\n")
        try:
            if lab.up(folder + "/config", folder + "/node.yaml"):
                raise SystemExit("the lab does not come up")
            self.haproxy_up()
            self.paths = [Path("foil", "foil-client", "foil-c0", self.kernels), Path("haproxy", "hp-near", "hp-c0", self.kernels)]
            self.start(inside("foil-backends", "nginx", "-c", folder + "/nginx.conf", "-e", folder + "/error.log"))
            for p in self.paths:
                p.wire_up("delay=0", 1)
                self.wait_ready(p)
                p.wire_down()
        except BaseException:
            self.__exit__()
            raise
        return self

    def haproxy_up(self):
        for ns in ("hp-near", "hp-mesh"):
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        for ns, dev, peer in (("hp-near", "hp-c0", "hp-m0"), ("foil-backends", "foil-b1", "hp-m1")):
            run("ip", "-n", ns, "link", "add", dev, "type", "veth", "peer", "name", peer, "netns", "hp-mesh")
            for n, one in ((ns, dev), ("hp-mesh", peer)):
                run(*inside(n, "ethtool", "-K", one, *OFF))
                run("ip", "-n", n, "link", "set", one, "txqueuelen", "10000", "up")
        run("ip", "-n", "foil-backends", "addr", "add", "198.19.1.10/24", "dev", "foil-b1")
        run("ip", "-n", "hp-mesh", "addr", "add", "198.18.0.1/24", "dev", "hp-m0")
        run("ip", "-n", "hp-mesh", "addr", "add", "198.19.1.1/24", "dev", "hp-m1")
        run("ip", "-n", "hp-mesh", "route", "replace", "198.18.0.0/24", "dev", "hp-m0", "src", "198.18.0.1", "congctl", self.kernels)
        run(*inside("hp-mesh", "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"))
        write(self.args.folder + "/haproxy.cfg", HAPROXY)
        self.start(inside("hp-mesh", "haproxy", "-db", "-f", self.args.folder + "/haproxy.cfg"))

    def start(self, words):
        self.processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def wait_ready(self, path):
        for _ in range(100):
            if run(*inside(path.far, "curl", "-sS", "--fail", "--max-time", "2", "-o", "/dev/null", f"http://{HOST}/small"), check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit(f"no answer through {path.name}")

    def __exit__(self, *ignored):
        for p in self.processes:
            p.terminate()
            p.wait()
        for p in self.paths:
            p.down()
        for ns in ("hp-near", "hp-mesh"):
            run("ip", "netns", "del", ns, check=False)
        lab.down(keep_quiet=True)


def measure(args, congestion):
    """{work: ([goodput with us], [with HAProxy])} and failures."""
    found, failures = {w: ([], []) for w in WORKS}, []
    with Setup(args, congestion) as s:
        for i in range(args.runs):
            for name, work in WORKS.items():
                if args.only not in name:
                    continue
                for k in (0, 1) if i % 2 == 0 else (1, 0):
                    s.paths[k].wire_up(args.spec, 1 + i)
                    goodput, bad = work(s.paths[k], args)
                    s.paths[k].wire_down()
                    found[name][k].append(goodput)
                    failures += [f"{s.paths[k].name}, {congestion}, {name}: {b}" for b in bad]
                    print(f"# {congestion}, {name}, {s.paths[k].name}: {goodput / 1e6:.2f} MB/s {'; '.join(bad)}", flush=True)
    return {w: f for w, f in found.items() if f[0]}, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loss", type=float, default=1)
    parser.add_argument("--rtt", type=float, default=50)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--mbytes", type=float, default=0, help="of a body; 0: 2 with cubic, 8 with bbr")
    parser.add_argument("--congestion", default="cubic,bbr")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("proxy_lossy: root is needed for network namespaces")
    missing = [p for p in ("haproxy", "nginx", "curl", "wrk") if not shutil.which(p)]
    if missing:
        sys.exit(f"proxy_lossy: not installed: {', '.join(missing)}")
    args.spec = f"rate={args.rate},delay={args.rtt / 2},queue={int(args.rate * args.rtt * 125)},loss={args.loss}"
    rows, failures, low = [], [], 0
    with tempfile.TemporaryDirectory(prefix="foil-lossy-") as folder:
        args.folder = folder
        os.chmod(folder, 0o755)
        os.makedirs(folder + "/www/put")
        os.chmod(folder + "/www/put", 0o777)
        write(folder + "/www/large", os.urandom(100000))
        write(folder + "/www/small", os.urandom(1000))
        write(folder + "/nginx.conf", NGINX.format(folder=folder))
        for congestion in args.congestion.split(","):
            args.n_bytes = int((args.mbytes or (8 if congestion == "bbr" else 2)) * 1000000)
            write(folder + "/www/body", os.urandom(args.n_bytes))
            args.sha256 = sha256(folder + "/www/body")
            found, bad = measure(args, congestion)
            failures += [b for b in bad if b.startswith("foil")]
            for work, (ours, theirs) in found.items():
                a, b = statistics.median(ours), statistics.median(theirs)
                low += a < FLOOR * b
                rows.append(f"| {congestion} | {work} | {a / 1e6:.2f} ({min(ours) / 1e6:.2f} to {max(ours) / 1e6:.2f}) | {b / 1e6:.2f} "
                            f"({min(theirs) / 1e6:.2f} to {max(theirs) / 1e6:.2f}) | {a / b * 100:.0f} % |")
    print("| congestion control | work | through Hydrofoil, MB/s | through HAProxy | ratio |\n|---|---|---|---|---|\n" + "\n".join(rows))
    print(f"\n{len(failures)} failed through Hydrofoil, {low} of {len(rows)} below {FLOOR * 100:.0f} % of HAProxy's")
    for line in failures:
        print("  " + line)
    return 1 if failures or low else 0


if __name__ == "__main__":
    sys.exit(main())
