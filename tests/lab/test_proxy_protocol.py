"""The PROXY protocol between strangers: curl and HAProxy tell who the client is (MeshConfig gatewayTopology.proxyProtocol), nginx is told (DestinationRule
trafficPolicy.proxyProtocol)."""
import contextlib
import shutil

import support
from foilrun import ui
from resources import destination_rule, own_lab, service_entry, virtual_service
from support import GATEWAY, Log, Skip, check, run_in

CONFIG = "".join((
    support.mesh_config("defaultConfig: {gatewayTopology: {proxyProtocol: {}}}"), support.gateway(name="all"),
    service_entry("origin", "198.19.0.10", hosts="[v1.test, v2.test, plain.test]", more="location: MESH_INTERNAL"),
    destination_rule("v1", "v1.test", "proxyProtocol: {version: V1}"), destination_rule("v2", "v2.test", "proxyProtocol: {version: V2}"),
    virtual_service("all", '["*"]', ("match: [{uri: {prefix: /v1}}], route: [{destination: {host: v1.test, port: {number: 8080}}}]",
                                     "match: [{uri: {prefix: /v2}}], route: [{destination: {host: v2.test, port: {number: 8080}}}]",
                                     'directResponse: {status: 200, body: {string: "direct"}}'), gateways="[istio-system/all]")))
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
    with own_lab("proxy", CONFIG) as folder:
        support.replace(folder + "/nginx.conf", NGINX.format(folder))
        processes = [support.start_in("backends", "nginx", "-c", folder + "/nginx.conf", "-e", folder + "/error.log")]
        try:
            yield folder, processes
        finally:
            for p in processes:
                ui.kill_group(p)


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
