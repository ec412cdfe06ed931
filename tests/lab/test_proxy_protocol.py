"""The PROXY protocol between strangers: curl and HAProxy tell who the client is (MeshConfig gatewayTopology.proxyProtocol), nginx is told (DestinationRule
trafficPolicy.proxyProtocol)."""
import contextlib
import os
import shutil
import tempfile

import support
from foilrun import lab, ui
from support import GATEWAY, Log, Skip, check, run_in

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    defaultConfig: {gatewayTopology: {proxyProtocol: {}}}
""" + support.gateway(name="all") + """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin, namespace: app}
spec:
  hosts: [v1.test, v2.test, plain.test]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 198.19.0.10}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: v1, namespace: app}
spec: {host: v1.test, trafficPolicy: {proxyProtocol: {version: V1}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: v2, namespace: app}
spec: {host: v2.test, trafficPolicy: {proxyProtocol: {version: V2}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: app}
spec:
  hosts: ["*"]
  gateways: [istio-system/all]
  http:
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: v1.test, port: {number: 8080}}}]
  - match: [{uri: {prefix: /v2}}]
    route: [{destination: {host: v2.test, port: {number: 8080}}}]
  - directResponse: {status: 200, body: {string: "direct"}}
"""
NGINX = """daemon off; pid {0}/pid; error_log {0}/error.log; worker_processes 1; events {{ worker_connections 256; }}
http {{ access_log off; server {{ listen 198.19.0.10:8080 proxy_protocol;
    location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_server_addr:$proxy_protocol_server_port $http_x_forwarded_for\\n"; }} }} }}"""
HAPROXY = """defaults
    mode tcp
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen one
    bind 127.0.0.1:8081
    server gateway 198.18.0.1:80 send-proxy
listen two
    bind 127.0.0.1:8082
    server gateway 198.18.0.1:80 send-proxy-v2 proxy-v2-options crc32c,unique-id
"""


@contextlib.contextmanager
def up():
    """A lab of our own with nginx behind it; the folder for files."""
    folder = tempfile.mkdtemp(prefix="foil-proxy-")
    os.mkdir(folder + "/config")
    support.replace(folder + "/config/mesh.yaml", CONFIG)
    support.replace(folder + "/nginx.conf", NGINX.format(folder))
    processes = []
    try:
        check(lab.up(folder + "/config", lab.DEFAULT_NODE) == 0, "the lab does not come up")
        processes.append(support.start_in("backends", "nginx", "-c", folder + "/nginx.conf", "-e", folder + "/error.log"))
        yield folder, processes
    finally:
        for p in processes:
            ui.kill_group(p)
        lab.down(keep_quiet=True)
        shutil.rmtree(folder, ignore_errors=True)


def curl(*words, url=f"http://{GATEWAY}"):
    done = run_in("client", "curl", "-sS", "--retry", "10", "--retry-connrefused", "--retry-delay", "1", "--max-time", "10", *words[:-1], url + words[-1])
    return done.returncode, done.stdout.strip()


def test_strangers_tell_and_are_told():
    if not shutil.which("haproxy"):
        raise Skip("HAProxy is not installed")
    with up() as (folder, processes):
        log = Log()
        for path in ("/v1", "/v2"):
            code, text = curl("--haproxy-protocol", path)
            check(code == 0 and text == "198.18.0.2 198.18.0.1:80 198.18.0.2", f"{path}: {code} {text}")
        log.find('"GET /v2 HTTP/1.1" 200', " 198.18.0.1:80 198.18.0.2:")
        support.replace(folder + "/haproxy.cfg", HAPROXY)
        processes.append(support.start_in("client", "haproxy", "-f", folder + "/haproxy.cfg", "-db"))
        for port in (8081, 8082):  # HAProxy tells of curl's own connection to it
            code, text = curl("/v2", url=f"http://127.0.0.1:{port}")
            check(code == 0 and text == f"127.0.0.1 127.0.0.1:{port} 127.0.0.1", f"{port}: {code} {text}")
        code, text = curl("-m", "3", "--retry", "0", "/direct")
        check(code in (52, 56), f"a connection without a header was answered: {code} {text}")
        metrics = support.Metrics()
        check(metrics.sum("foil_mesh_proxy_headers_total") >= 4, "foil_mesh_proxy_headers_total")
        check(metrics.sum("foil_mesh_resets_total", reason="proxy_header_bad") >= 1, "foil_mesh_resets_total{reason=proxy_header_bad}")
