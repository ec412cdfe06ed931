"""./foil bench veth: requests a second over veth, Hydrofoil beside HAProxy on the same wire with the same one core.

Each proxy in its turn has the lab's mesh namespace, the same two addresses, and the last core for itself; client (wrk), origin (nginx),
agent and housekeeping share the first. Only one of them runs at a time: a packet socket beside HAProxy, or the kernel's IP beside the
data plane, would cost the other something. The rounds take turns, so that what the machine does meanwhile hits both."""
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

from foilrun import build, lab, ui

USAGE = "usage: ./foil bench veth [--seconds N] [--rounds N] [--connections N] [--json FILE]"
HOST, ORIGIN, FRONT, BACK = "bench.example.com", "198.19.0.10", "198.18.0.1", "198.19.0.1"
NGINX = """daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen {origin}:8080 backlog=4096; location / {{ return 200 "{body}"; }} }} }}
"""
HAPROXY = """global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend front
  bind {front}:80
  default_backend origin
backend origin
  server one {origin}:8080 pool-max-conn -1
"""
MESH = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: front, namespace: bench}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: ["*.example.com"]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: origin, namespace: bench}}
spec:
  hosts: [origin.bench]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: {origin}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench, namespace: bench}}
spec:
  hosts: ["{host}"]
  gateways: [front]
  http:
  - route:
    - destination: {{host: origin.bench, port: {{number: 8080}}}}
"""


def options(argv):
    chosen = {"--seconds": 5, "--rounds": 3, "--connections": 64, "--json": None}
    rest = list(argv)
    while len(rest) >= 2 and rest[0] in chosen:
        if rest[0] != "--json" and not (rest[1].isdigit() and 0 < int(rest[1]) <= 3600):
            raise ui.Failed(USAGE)
        chosen[rest[0]] = rest[1] if rest[0] == "--json" else int(rest[1])
        rest = rest[2:]
    if rest:
        raise ui.Failed(USAGE)
    return chosen


def cores():
    """(the proxy's core, the core of everything else)."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise ui.Failed("bench compares two proxies with one core each and needs a second core for client and origin")
    return allowed[-1], allowed[0]


class Bench:
    """What stands between client and origin; everything that was started ends with it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="foil-bench-")
        self.started, self.haproxy, (self.proxy_core, self.other_core) = [], None, cores()

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        for process in self.started:
            ui.kill_group(process)
        lab.down(keep_quiet=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return False

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self, where, core, *command):
        full = ["ip", "netns", "exec", lab.NAMESPACES[where], "taskset", "-c", str(core), *command]
        log = open(os.path.join(self.folder, os.path.basename(command[0]) + ".out"), "ab")
        self.started.append(subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        log.close()
        return self.started[-1]

    def open(self):
        with open(lab.DEFAULT_NODE) as f:
            node = f.read()
        cored = f"workers: {{count: 1, cores: [{self.proxy_core}], housekeeping: {self.other_core}}}"
        node = node.replace("workers: {count: 1}", cored).replace("access_log: ", "# no access log: HAProxy writes none either: ")
        node = node.replace("idle: pause", "idle: poll")
        if cored not in node:
            raise ui.Failed(f"{lab.DEFAULT_NODE}: no line \"workers: {{count: 1}}\" to pin")
        config = os.path.dirname(self.write("config/10-bench.yaml", MESH.format(origin=ORIGIN, host=HOST)))
        if lab.up(config, self.write("node.yaml", node)):
            raise ui.Failed("the lab does not come up: see above")
        agent = lab.read_state()["processes"]["foil-agent"]["pid"]
        os.sched_setaffinity(agent, {self.other_core})
        self.start("backends", self.other_core, "nginx", "-c",
                   self.write("nginx.conf", NGINX.format(folder=self.folder, origin=ORIGIN, body="x" * 128)), "-e", self.folder + "/nginx.log")
        self.haproxy_config = self.write("haproxy.cfg", HAPROXY.format(front=FRONT, origin=ORIGIN))
        self.wait_for_answer("Hydrofoil")

    def to_haproxy(self):
        state, mesh = lab.read_state(), lab.NAMESPACES["mesh"]
        lab.end_process(state["processes"]["hydrofoil"], ((signal.SIGTERM, 0.3), (signal.SIGTERM, 5), (signal.SIGKILL, 3)))
        for device, address in (("foil-m0", FRONT), ("foil-m1", BACK)):
            lab.ip("-n", mesh, "addr", "add", address + "/24", "dev", device)
        self.haproxy = self.start("mesh", self.proxy_core, "haproxy", "-db", "-f", self.haproxy_config)
        self.wait_for_answer("HAProxy")

    def to_hydrofoil(self):
        if not self.haproxy:
            return
        ui.kill_group(self.haproxy)
        self.started.remove(self.haproxy)
        self.haproxy = None
        for device in ("foil-m0", "foil-m1"):
            lab.ip("-n", lab.NAMESPACES["mesh"], "addr", "flush", "dev", device)
        lab.start_hydrofoil(lab.read_state())
        self.wait_for_answer("Hydrofoil")

    def wait_for_answer(self, name):
        deadline, done = time.monotonic() + 10, None
        while time.monotonic() < deadline:
            done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "curl", "-sS", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}",
                                   "-H", "host: " + HOST, f"http://{FRONT}/"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.stdout == "200":
                return
            time.sleep(0.1)
        raise ui.Failed(f"{name} does not answer: {done.stdout} {done.stderr.strip()}")

    def load(self, seconds, connections):
        command = ["ip", "netns", "exec", lab.NAMESPACES["client"], "taskset", "-c", str(self.other_core), "wrk", "-t", "1", "-c", str(connections),
                   "-d", f"{seconds}s", "--latency", "-H", "Host: " + HOST, f"http://{FRONT}/"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30)
        return wrk_numbers(done.stdout)


def wrk_numbers(text):
    words = text.split()
    try:
        errors = sum(int(w.strip(",")) for w in text.split("Socket errors:")[1].splitlines()[0].split() if w.strip(",").isdigit()) \
            if "Socket errors:" in text else 0
        bad = int(text.split("Non-2xx or 3xx responses:")[1].split()[0]) if "Non-2xx" in text else 0
        return {"per_s": float(words[words.index("Requests/sec:") + 1]), "p50": words[words.index("50%") + 1], "p99": words[words.index("99%") + 1],
                "errors": errors + bad}
    except (ValueError, IndexError):
        raise ui.Failed("wrk said: " + text) from None


def measure(bench, chosen):
    results = {"Hydrofoil": [], "HAProxy": []}
    turn_to = {"Hydrofoil": bench.to_hydrofoil, "HAProxy": bench.to_haproxy}
    ui.say(f"\n   round  {'proxy':10} {'requests/s':>10} {'p50':>9} {'p99':>9}  errors")
    for number in range(1, chosen["--rounds"] + 1):
        for name in results:
            turn_to[name]()
            bench.load(1, chosen["--connections"])  # warms pools and caches
            result = bench.load(chosen["--seconds"], chosen["--connections"])
            results[name].append(result)
            ui.say(f"   {number:5}  {name:10} {result['per_s']:10.0f} {result['p50']:>9} {result['p99']:>9}  {result['errors']:6}")
    return results


def main(argv):
    chosen = options(argv)
    ui.need_root("bench")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)
    build.build("release", build.PROGRAMS)
    os.environ["FOIL_NO_BUILD"] = "1"
    with Bench() as bench:
        bench.open()
        ui.say(f"bench: wrk -c {chosen['--connections']}, 128 bytes from nginx; the proxy has core {bench.proxy_core}, all else core {bench.other_core}")
        results = measure(bench, chosen)
    medians = {name: statistics.median(r["per_s"] for r in rounds) for name, rounds in results.items()}
    errors = sum(r["errors"] for r in results["Hydrofoil"])
    ratio = medians["Hydrofoil"] / medians["HAProxy"]
    ui.say(f"\nmedian: Hydrofoil {medians['Hydrofoil']:.0f}, HAProxy {medians['HAProxy']:.0f} requests a second: {100 * ratio:.0f} % of HAProxy")
    if chosen["--json"]:
        with open(chosen["--json"], "w") as f:
            json.dump({"connections": chosen["--connections"], "seconds": chosen["--seconds"], "rounds": results, "median_per_s": medians,
                       "ratio": round(ratio, 4), "cores": {"proxy": bench.proxy_core, "others": bench.other_core}}, f, indent=1)
    if errors:
        raise ui.Failed(f"{errors} of Hydrofoil's requests failed")
    return 0
