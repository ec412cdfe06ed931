"""./foil bench: Hydrofoil beside HAProxy, nginx and Envoy in one run. docs/performance.md explains the method and its traps.

Each proxy in its turn has the last core for itself; foil-load, which is client and origin, and everything else share the first. The turns
interleave, so that what the machine does meanwhile hits all of them, and one during which foil-core-speed did not find the proxy's core whole is taken
again; a figure is the median of its rounds, but for latencies, which are those of the round
with the least p99.9 (p99 at 10 %): whoever else wants the cores can only add to them. It runs in a network namespace of its own."""
import collections
import contextlib
import ctypes
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile

from foilrun import bench_peers, build, ui

USAGE = ("usage: ./foil bench [NAME...|all] [--seconds N] [--rounds N] [--proxy NAME]... [--json FILE] [--urgent]\n"
         "       ./foil bench micro | veth ...\n"
         "names: {}\nproxies: {}\nwithout NAME: all but {}; without --proxy: nginx and Envoy one round, virtio-user and veth where the wire matters\n--urgent: the bench's processes before all others of the machine")
INSIDE = "FOIL_BENCH_INSIDE"
Work = collections.namedtuple("Work", "name arguments connections routes match tcp latency seconds_factor unit_bits tls http2 held workers mtu wires is_extra")


def work(name, *arguments, connections=64, routes=20, match="prefix", tcp=False, latency=False, seconds_factor=1, unit_bits=0, tls=None,
         http2=None, held=False, workers=1, mtu=1500, wires=(), is_extra=False):
    """tls: "tls" of the client, "mtls" of client and origin with certificates of both; http2: "h2-h1" of the client, "h2-h2" of both. wires: proxies that
    are there for their wire (envoy-istio: its filters), and take part without being named. is_extra: only by its name."""
    return Work(name, list(arguments), connections, routes, match, tcp, latency, seconds_factor, unit_bits, tls, http2, held, workers, mtu, wires, is_extra)


WORKS = {w.name: w for w in (
    work("h1-keepalive", latency=True, wires=("hydrofoil-virtio",)),
    work("h1-keepalive-2", workers=2, is_extra=True),
    work("h1-newconn", "--work", "newconn", wires=("hydrofoil-virtio",)),
    work("h1-routes-10", routes=10),
    work("h1-routes-10000", routes=10000),
    work("h1-routes-10000-header", "--header", "x-route: value-9998", routes=10000, match="header"),
    work("h1-1mib", "--body", str(1 << 20), connections=16, unit_bits=8 << 20, mtu=9000, wires=("hydrofoil-zero-copy", "hydrofoil-virtio", "haproxy-veth", "haproxy-veth-tso", "nginx-veth")),
    work("h1-1mib-1500", "--body", str(1 << 20), connections=16, unit_bits=8 << 20, wires=("haproxy-veth", "nginx-veth")),
    work("tcp-64b", "--work", "tcp", "--tcp-bytes", "64", tcp=True),
    work("idle", connections=8000, held=True, wires=("hydrofoil-virtio",)),
    work("h2-h1", "--pipeline", "8", connections=8, http2="h2-h1"),
    work("h2-h2", "--pipeline", "8", connections=8, http2="h2-h2"),
    work("tls-keepalive", tls="tls"),
    work("mtls-keepalive", tls="mtls", wires=("envoy-istio",)),
    work("tls-newconn", "--work", "newconn", tls="tls"),
    work("tls-resume", "--work", "newconn", "--resume", tls="tls"),
    work("tls-1mib", "--body", str(1 << 20), connections=16, unit_bits=8 << 20, tls="tls", mtu=9000,
         wires=("hydrofoil-zero-copy", "haproxy-veth", "haproxy-veth-tso", "nginx-veth")),
    work("tls-idle", connections=8000, held=True, tls="tls", is_extra=True),
)}
WIRES = ("hydrofoil-zero-copy", "hydrofoil-virtio", "haproxy-veth", "haproxy-veth-tso", "nginx-veth", "envoy-istio")
ONE_ROUND = ("haproxy-veth-tso", "nginx", "nginx-veth", "envoy", "envoy-istio")  # the ratio that is claimed is HAProxy's
LATENCIES = ("p50_us", "p99_us", "p999_us", "p9999_us", "own_p999_us", "clear_p99_us", "clear_p999_us", "clear_share")
TRIES, WHOLE_CORE = 4, 0.85
PATHS = {"h1-routes-10": "/route-8/x", "h1-routes-10000": "/route-9998/x"}


def options(argv):
    chosen = {"works": [], "proxies": [], "is_named": False, "--seconds": 3, "--rounds": 3, "--json": None, "--urgent": False}
    rest = list(argv)
    usage = USAGE.format(" ".join(WORKS), " ".join(bench_peers.PROXIES), ", ".join(w.name for w in WORKS.values() if w.is_extra))
    while rest:
        word = rest.pop(0)
        if word in WORKS:
            chosen["works"].append(WORKS[word])
        elif word == "all":
            chosen["works"] += WORKS.values()
        elif word == "--urgent":
            chosen[word] = True
        elif word == "--proxy" and rest and rest[0] in bench_peers.PROXIES:
            chosen["proxies"].append(rest.pop(0))
        elif word in ("--seconds", "--rounds") and rest and rest[0].isdigit() and 0 < int(rest[0]) <= 3600:
            chosen[word] = int(rest.pop(0))
        elif word == "--json" and rest:
            chosen[word] = os.path.abspath(rest.pop(0))
        else:
            raise ui.Failed(usage)
    chosen["works"] = chosen["works"] or [w for w in WORKS.values() if not w.is_extra]
    chosen["is_named"] = bool(chosen["proxies"])
    chosen["proxies"] = chosen["proxies"] or list(bench_peers.PROXIES)
    return chosen


class Bench:
    """The folder, the cores and the load generator; everything that was started ends with it."""

    def __init__(self, chosen):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise ui.Failed("bench gives the proxy one core and needs a second one for client and origin")
        self.chosen, self.proxy_core, self.other_core = chosen, allowed[-1], allowed[0]
        self.folder = tempfile.mkdtemp(prefix="foil-bench-", dir="/tmp")
        self.proxies, self.versions, self.n_failed, self.full_speed = {}, {}, 0, 0
        self.certificates = bench_peers.make_certificates(os.path.join(self.folder, "certificates"))

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        for proxy in self.proxies.values():
            proxy.down()
        shutil.rmtree(self.folder, ignore_errors=True)
        return False

    def open(self):
        for name in self.chosen["proxies"]:
            kind = bench_peers.PROXIES[name]
            why_not = kind.available()
            if why_not:
                ui.say(f"  {name} is left out: {why_not}")
                continue
            folder = os.path.join(self.folder, name)
            os.makedirs(folder)
            self.proxies[name] = kind(folder, self.proxy_core, self.certificates)
            self.versions[name] = self.proxies[name].version()

    def load(self, proxy, arguments, seconds, warm_up=0.5, between=None, speed=None):
        """One run of foil-load; returns its result and what the proxy used while it measured. between() is called when measuring ends; speed takes what
        foil-core-speed says of the proxy's core meanwhile."""
        path = os.path.join(self.folder, "load.json")
        if os.path.exists(path):
            os.remove(path)
        command = ["taskset", "-c", str(self.other_core), os.path.join(build.folder(bench_peers.KIND), "perf", "foil-load"), *arguments, "--host", bench_peers.HOST,
                   "--seconds", str(seconds), "--warm-up", str(warm_up), "--settle", "0.3", "--json", path, "--quiet"]
        usage = {}
        with open(os.path.join(self.folder, "load.err"), "w+") as errors, contextlib.ExitStack() as measured:
            p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
            watchdog = subprocess.Popen(["timeout", str(seconds + warm_up + 40), "tail", f"--pid={p.pid}", "-f", "/dev/null"])
            try:
                if proxy and hasattr(proxy, "began"):
                    proxy.began()
                for line in p.stdout:
                    if line.startswith("measure ") and proxy:
                        event = line.split()[1]
                        usage[event] = proxy.usage()
                        if speed is not None and event == "begin":
                            measured.enter_context(self.core_speed(seconds + 40, speed))
                        elif event == "end":
                            measured.close()
                            if between:
                                between()
                p.wait(20)
            finally:
                p.kill()
                p.wait()
                watchdog.kill()
                watchdog.wait()
                if proxy and hasattr(proxy, "ended"):
                    proxy.ended()
            errors.seek(0)
            if p.returncode or not os.path.exists(path):
                raise ui.Failed(f"foil-load {' '.join(arguments)}: {errors.read().strip()[-800:]}")
        with open(path) as f:
            return json.load(f), usage

    @contextlib.contextmanager
    def core_speed(self, seconds, speed):
        """speed takes what foil-core-speed says of the proxy's core while this lasts, which is not longer than seconds."""
        command = [os.path.join(build.folder(bench_peers.KIND), "perf", "foil-core-speed"), str(self.proxy_core), str(seconds)]
        p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield
            speed.update(json.loads(p.communicate(timeout=20)[0]))  # it ends with its input
        finally:
            p.kill()
            p.wait()


def load_arguments(proxy, w):
    path = PATHS.get(w.name, "/")
    secure = {None: [], "tls": ["--tls"], "mtls": ["--tls", "--origin-tls", *bench_peers.certificate_arguments(proxy.certificates)]}[w.tls]
    http2 = {None: [], "h2-h1": ["--http2"], "h2-h2": ["--http2", "--origin-http2"]}[w.http2]
    return [*proxy.load_arguments(w), "--connections", str(w.connections), "--path", path, *w.arguments, *secure, *http2]


def warm_up_s(proxy):
    """Over shared memory the first packets may be lost while the other end wakes up: a SYN is sent again after a second, and a pooled connection to the
    load generator before finds nobody. virtio-user's proxy starts only now."""
    return 5 if hasattr(proxy, "began") else 2.5 if isinstance(proxy, bench_peers.Hydrofoil) else 0.5


def waited(usage, result):
    """The share of the time in which the proxy was ready to run and had no core."""
    return (usage["end"]["waited_s"] - usage["begin"]["waited_s"]) / result["seconds"]


def on_whole_core(bench, proxy, w):
    """(result, usage, share of the core's speed that was there). Whoever has the other hyperthread of the proxy's core, which the hypervisor decides, takes
    up to half of it: measured again then, up to TRIES times, and the try with most of the core is the one that counts, whatever its figure is."""
    best = None
    for _ in range(TRIES):
        speed = {}
        result, usage = bench.load(proxy, load_arguments(proxy, w), bench.chosen["--seconds"] * w.seconds_factor, warm_up_s(proxy), speed=speed)
        bench.full_speed = max(bench.full_speed, speed["p90"])
        if not best or speed["mean"] > best[2]:
            best = result, usage, speed["mean"]
        if best[2] >= WHOLE_CORE * bench.full_speed:
            break
    return best[0], best[1], best[2] / bench.full_speed


def saturate(bench, proxy, w):
    """Closed loop: what the proxy makes of its core."""
    result, usage, share = on_whole_core(bench, proxy, w)
    busy_s, cpu_s = proxy.used(usage["begin"], usage["end"])
    figures = {"requests_per_busy_core_second": result["requests"] / busy_s, "requests_per_second": result["requests_per_second"],
               "core_share": share, "waited_share": waited(usage, result), "cpu_share": cpu_s / result["seconds"], "busy_share": busy_s / result["seconds"], "errors": sum(result["errors"].values())}
    if w.unit_bits:
        figures["gbit_per_busy_core_second"] = result["requests"] * w.unit_bits / busy_s / 1e9
        figures["gbit_per_second"] = result["requests_per_second"] * w.unit_bits / 1e9
    if w.workers > 1:  # a packet for the worker that does not have the queue goes over a ring
        moved, received = (usage["end"]["stats"][key] - usage["begin"]["stats"][key] for key in ("foil_nic_steered_in_total", "foil_nic_rx_packets_total"))
        figures["steered_share"] = moved / max(1, received)
    if w.tcp:  # a message there and back is four packets of payload through the proxy
        figures["packets_per_busy_core_second"] = 4 * figures["requests_per_busy_core_second"]
    return figures


def latencies(bench, proxy, w, rate, suffix, figures):
    """Open loop at a rate: percentiles from when a request was due."""
    result, usage = bench.load(proxy, [*load_arguments(proxy, w), "--rate", f"{rate:.0f}"], bench.chosen["--seconds"], warm_up_s(proxy))
    figures["own_p999_us" + suffix] = result["own_us"]["p99.9"]  # what the load generator would show of a proxy that takes no time
    figures["clear_p99_us" + suffix], figures["clear_p999_us" + suffix] = result["clear_us"]["p99"], result["clear_us"]["p99.9"]
    figures["clear_share" + suffix] = result["clear_share"]  # of the requests, from due to answered, the generator had its core
    figures["waited_share" + (suffix or "_at_10")] = waited(usage, result)
    for key, name in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"), ("p99.99", "p9999_us")):
        figures[name + suffix] = result["latency_us"][key]
    figures["rate_per_second" + suffix] = rate
    figures["errors"] += sum(result["errors"].values())


def hold(bench, proxy, w, connections, seconds):
    """Of a proxy that starts now: (connections held, its memory with them and before, CPU seconds it used)."""
    held = {}
    proxy.down()
    proxy.up(w)
    bench.load(proxy, load_arguments(proxy, w._replace(connections=64)), 1, warm_up_s(proxy))  # buffers and pools that serve any number of connections
    before = proxy.memory_bytes()
    result, usage = bench.load(proxy, [*load_arguments(proxy, w._replace(connections=connections)), "--work", "hold"], seconds, 60,
                               between=lambda: held.update(bytes=proxy.memory_bytes()))
    if result["open"] < connections * 0.9:
        raise ui.Failed(f"{proxy.name} holds {result['open']} of {connections} connections")
    return result["open"], held["bytes"], before, proxy.used(usage["begin"], usage["end"])[1]


def idle(bench, proxy, w):
    """Memory a held connection, CPU at rest, and the first requests after rest (20 a second, so that each finds the proxy idle). Memory is the slope between
    a quarter of the connections and all of them, each with a proxy that begins anew: what each one more costs, without what the first ones touch for all."""
    if isinstance(proxy, bench_peers.Hydrofoil):
        proxy.idle, proxy.hugepages, proxy.memory_mb = "pause", "off", 1024
    try:
        (some, some_bytes, empty_bytes, _), (most, most_bytes, _, cpu_s) = hold(bench, proxy, w, w.connections // 4, 1), hold(bench, proxy, w, w.connections, 3)
        first, _ = bench.load(proxy, [*load_arguments(proxy, w._replace(connections=4)), "--rate", "20"], bench.chosen["--seconds"], warm_up_s(proxy))
        figures = {"memory_bytes_per_connection": (most_bytes - some_bytes) / (most - some), "memory_bytes_per_connection_of_first": (some_bytes - empty_bytes) / some,
                   "held": most, "idle_cpu_share": cpu_s / 3,
                   "first_request_p50_us": first["latency_us"]["p50"], "first_request_p99_us": first["latency_us"]["p99"],
                   "errors": sum(first["errors"].values())}
        if isinstance(proxy, bench_peers.Hydrofoil):  # and what a worker that never rests makes of the same
            proxy.down()
            proxy.idle = "poll"
            proxy.up(w)
            polled, _ = bench.load(proxy, [*load_arguments(proxy, w._replace(connections=4)), "--rate", "20"], bench.chosen["--seconds"], warm_up_s(proxy))
            figures["first_request_polling_p50_us"] = polled["latency_us"]["p50"]
        return figures
    finally:
        if isinstance(proxy, bench_peers.Hydrofoil):
            proxy.down()
            for name in ("idle", "hugepages", "memory_mb"):
                proxy.__dict__.pop(name, None)


def idle_by_mode(bench, proxy, w):
    """The first requests after rest, and the core's share that 20 of them a second cost, by idle mode; over virtio-user, whose driver can interrupt."""
    figures = {"errors": 0}
    try:
        for mode in ("poll", "pause", "interrupt"):
            proxy.idle = mode
            proxy.up(w)
            first, usage = bench.load(proxy, [*load_arguments(proxy, w._replace(connections=4)), "--rate", "20"], bench.chosen["--seconds"], warm_up_s(proxy))
            if "cannot interrupt" in bench_peers.read(proxy.folder, "hydrofoil.log"):
                continue
            figures[f"first_request_{mode}_p50_us"] = first["latency_us"]["p50"]
            figures[f"cpu_share_{mode}"] = proxy.used(usage["begin"], usage["end"])[1] / first["seconds"]
            figures["errors"] += sum(first["errors"].values())
            proxy.down()
        return figures
    finally:
        proxy.down()
        proxy.__dict__.pop("idle", None)


def skipped(bench, proxy, w):
    if proxy.name in WIRES and proxy.name not in w.wires and not bench.chosen["is_named"]:
        return "the wire makes no difference of its own here"
    if w.tcp and proxy.name == "nginx":
        return "Debian's nginx has no stream module of its own"
    if w.held and w.tls and proxy.name == "hydrofoil-virtio":
        return "as over memif: the wire makes no difference"
    if w.workers > 1 and proxy.name != "hydrofoil":
        return "two workers, one of them on the load generator's core, say something of Hydrofoil's only"
    if w.http2 == "h2-h2" and proxy.name == "nginx":
        return "nginx speaks HTTP/1.1 to its origins"
    return None


def transparent_hugepages(are_allowed):
    """For what this process starts from now on: a page of 2 MiB would be hundreds of bytes a held connection."""
    PR_SET_THP_DISABLE = 41
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 0 if are_allowed else 1, 0, 0, 0)


def measure_one(bench, proxy, w, base):
    try:
        transparent_hugepages(not w.held)
        proxy.up(w)
        if w.held:
            return (idle_by_mode if proxy.name == "hydrofoil-virtio" else idle)(bench, proxy, w)
        figures = saturate(bench, proxy, w)
        base = figures["requests_per_busy_core_second"] if proxy.name == "haproxy" else base
        if w.latency and base and (proxy.name not in WIRES or bench.chosen["is_named"]):
            latencies(bench, proxy, w, base / 10, "", figures)
            latencies(bench, proxy, w, base / 2, "_at_50", figures)
        return figures
    finally:
        transparent_hugepages(True)
        proxy.down()


def measure_work(bench, w):
    rounds = {name: [] for name in bench.proxies}
    for number in range(1, bench.chosen["--rounds"] + 1):
        base = None
        order = sorted(bench.proxies, key=lambda name: name != "haproxy")  # its rate is the measure of the others
        for name in order:
            proxy = bench.proxies[name]
            if skipped(bench, proxy, w) or (number > 1 and (w.held or (name in ONE_ROUND and not w.latency)) and not bench.chosen["is_named"]):
                continue
            try:
                figures = measure_one(bench, proxy, w, base)
            except ui.Failed as e:  # the others' figures are still worth something
                ui.say(f"   {w.name:24} {number}  {name:18} left out: {str(e).strip().splitlines()[-1][:200]}")
                bench.n_failed += 1
                continue
            if name == "haproxy":
                base = figures.get("requests_per_busy_core_second")
            rounds[name].append(figures)
            ui.say(f"   {w.name:24} {number}  {name:18} " + brief(figures))
    return [one for name in bench.proxies if rounds[name] for one in [summary(bench, w, name, rounds[name])]]


def brief(figures):
    shown = (("requests_per_busy_core_second", "{:9.0f}/busy core-s"), ("requests_per_second", "{:9.0f}/s"), ("gbit_per_busy_core_second", "{:7.2f} Gbit/busy core-s"),
             ("p50_us", "p50 {:.0f}"), ("p99_us", "p99 {:.0f} us"), ("p999_us_at_50", "p99.9 at half {:.0f} us"), ("own_p999_us_at_50", "own {:.0f}"),
             ("clear_p999_us_at_50", "clear {:.0f}"), ("clear_share_at_50", "of {:.3f}"), ("core_share", "of its core {:.2f}"), ("waited_share", "waited {:.3f}"), ("memory_bytes_per_connection", "{:.0f} B/conn"),
             ("steered_share", "steered {:.2f}"), ("idle_cpu_share", "idle cpu {:.3f}"), ("first_request_p50_us", "first p50 {:.0f} us"),
             ("first_request_polling_p50_us", "polling {:.0f} us"), ("first_request_poll_p50_us", "first when polling {:.0f} us"),
             ("first_request_pause_p50_us", "pausing {:.0f} us"), ("first_request_interrupt_p50_us", "interrupted {:.0f} us"), ("errors", "errors {}"))
    return "  ".join(form.format(figures[key]) for key, form in shown if key in figures)


def summary(bench, w, name, rounds):
    one = {"work": w.name, "proxy": name, "version": bench.versions[name], "wire": bench.proxies[name].wire, "rounds": len(rounds)}
    for key in rounds[0]:
        values = [r[key] for r in rounds if key in r]
        one[key] = sum(values) if key == "errors" else statistics.median(values)
    for suffix, measure in (("", "p99_us"), ("_at_50", "p999_us")):
        quiet = min((r for r in rounds if measure + suffix in r), key=lambda r: r[measure + suffix], default={})
        one.update({key: quiet[key] for name in LATENCIES for key in (name + suffix,) if key in quiet})
    return one


def table(results):
    """Markdown; ratios to HAProxy of the same work and run."""
    lines = ["| work | proxy | requests per busy core-second | to HAProxy | requests/s, one core | p50 / p99 at 10 % | p99.9 at 50 % (of the requests in which the generator had its core: p99.9, their share) | else |", "|---|---|---|---|---|---|---|---|"]
    base = {r["work"]: r for r in results if r["proxy"] == "haproxy"}
    veth = {r["work"]: r for r in results if r["proxy"] == "haproxy-veth"}
    for r in results:
        key = "requests_per_busy_core_second"
        haproxy, extra = base.get(r["work"], {}), []
        if "gbit_per_busy_core_second" in r:
            extra.append(f"{r['gbit_per_busy_core_second']:.1f} Gbit per busy core-second")
        if r["proxy"] in ("hydrofoil", "hydrofoil-zero-copy") and key in veth.get(r["work"], {}):
            extra.append(f"{r[key] / veth[r['work']][key]:.2f} x HAProxy over {veth[r['work']]['wire']}")
        if "memory_bytes_per_connection" in r:
            extra.append(f"{r['memory_bytes_per_connection']:.0f} B a connection, {100 * r['idle_cpu_share']:.1f} % of a core idle, "
                         f"first request p50 {r['first_request_p50_us']:.0f} us" +
                         (f" ({r['first_request_polling_p50_us']:.0f} us from a worker that polls)" if "first_request_polling_p50_us" in r else ""))
        modes = [f"{mode} {r[f'first_request_{mode}_p50_us']:.0f} us at {100 * r[f'cpu_share_{mode}']:.1f} % of a core" for mode in ("poll", "pause", "interrupt")
                 if f"first_request_{mode}_p50_us" in r]
        if "cpu_share_poll" in r:
            extra.append("first of 20 requests a second: " + ", ".join(modes))
        if "steered_share" in r:
            extra.append(f"{100 * r['steered_share']:.0f} % of packets from worker to worker")
        if r.get("core_share", 1) < WHOLE_CORE:
            extra.append(f"had {100 * r['core_share']:.0f} % of its core's speed")
        if r["errors"]:
            extra.append(f"{r['errors']} errors")
        cells = [r["work"], f"{r['proxy']} {r['version']} ({r['wire']})", f"{r[key]:,.0f}" if key in r else "",
                 f"{r[key] / haproxy[key]:.2f} x" if key in r and key in haproxy else "", f"{r['requests_per_second']:,.0f}" if key in r else "",
                 f"{r['p50_us']:.0f} / {r['p99_us']:.0f} us" if "p50_us" in r else "", f"{r['p999_us_at_50']:.0f} us ({r['clear_p999_us_at_50']:.0f} us, {100 * r['clear_share_at_50']:.1f} %)" if "p999_us_at_50" in r else "",
                 "; ".join(extra)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def enter(argv):
    """Again, in a network namespace of its own."""
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", os.path.join(ui.ROOT, "foil"), "bench", *argv])


def prepare(chosen):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    reserved = "15000-15100"  # the agent's: a peer's connection of the turn before may wait on such a port
    for key, value in (("net.ipv4.ip_local_port_range", "1024 65535"), ("net.ipv4.ip_local_reserved_ports", reserved), ("net.ipv4.tcp_tw_reuse", "1"),
                       ("net.core.somaxconn", "65535"), ("net.ipv4.tcp_max_syn_backlog", "65535")):
        subprocess.run(["sysctl", "-qw", f"{key}={value}"], check=False, stderr=subprocess.DEVNULL)
    if chosen["--urgent"]:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        if os.path.exists("/proc/self/autogroup"):
            try:
                os.setsid()
            except PermissionError:
                pass  # it leads a group already: then it is its terminal's session that goes first
            with open("/proc/self/autogroup", "w") as f:
                f.write("-20")


def main(argv):
    if argv[:1] == ["micro"]:
        from foilrun import micro
        return micro.main(argv[1:])
    if argv[:1] == ["veth"]:
        from foilrun import bench_veth
        return bench_veth.main(argv[1:])
    chosen = options(argv)
    ui.need_root("bench")
    if INSIDE not in os.environ:
        if "FOIL_NO_BUILD" not in os.environ:
            build.build(bench_peers.KIND, [*build.PROGRAMS, "perf/foil-load", "perf/foil-core-speed"])
        if any(issubclass(bench_peers.PROXIES[name], bench_peers.Envoy) for name in chosen["proxies"]):
            bench_peers.Envoy.available()  # fetches it where it is not here, which the namespace has no way to; what it says is asked again there
        enter(argv)
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)
    prepare(chosen)
    results = []
    with Bench(chosen) as bench:
        bench.open()
        ui.say(f"bench: {chosen['--rounds']} rounds of {chosen['--seconds']} s; the proxy has core {bench.proxy_core}, all else core {bench.other_core}")
        for w in chosen["works"]:
            results += measure_work(bench, w)
            if chosen["--json"]:
                with open(chosen["--json"], "w") as f:
                    json.dump(results, f, indent=1)
    ui.say("\n" + table(results))
    if bench.n_failed:
        raise ui.Failed(f"{bench.n_failed} measurements failed: see above")
    return 0
