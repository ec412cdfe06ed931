"""Original destinations: addresses of the backends are captured, and connections to them go on to where they went (ServiceEntry with resolution NONE with
and without ranges, a PASSTHROUGH load balancer, TLS by server name, hosts and ports that nobody described). Expected is what a sidecar of Istio's does
(features.md DR-9, SE-3, SE-5, SE-11, SC-2, SC-5, VS-57)."""
import contextlib
import os

import support
import told
from resources import destination_rule, own_lab, service, service_entry, virtual_service
from support import check

FIRST, SECOND, NOBODY = "198.19.0.65", "198.19.0.66", "198.19.0.67"
CONFIG = "".join((
    service_entry("web", resolution="NONE"),
    virtual_service("web", "[web.test]", (
        'match: [{uri: {prefix: /told}}], headers: {request: {set: {x-told: "yes"}}}, route: [{destination: {host: web.test}}]',
        "match: [{uri: {prefix: /here}}], directResponse: {status: 418}", "route: [{destination: {host: web.test}}]"), gateways=None),
    service_entry("some", resolution="NONE", ports="[{number: 9001, name: tcp, protocol: TCP}]", more="addresses: [198.19.0.64/31]"),
    service_entry("fixed", "{address: 198.19.0.65, ports: {http: 8080}}", ports="[{number: 8081, name: http, protocol: HTTP}]", more="addresses: [198.19.0.70]"),
    service("pass", "clusterIP: 198.19.0.66"), destination_rule("pass", "pass.app.svc.cluster.local", "loadBalancer: {simple: PASSTHROUGH}"),
    service_entry("one", FIRST, hosts='[one.tls.test, "*.wild.tls.test"]', ports="[{number: 9443, name: tls, protocol: TLS, targetPort: 9000}]"),
    service_entry("two", SECOND, hosts="[two.tls.test]", ports="[{number: 9443, name: https, protocol: HTTPS, targetPort: 9000}]"),
    service_entry("moved", hosts="[moved.tls.test]", resolution="NONE", ports="[{number: 9443, name: tls, protocol: TLS}]"),
    virtual_service("moved", "[moved.tls.test]", ["match: [{port: 9443, sniHosts: [moved.tls.test]}], route: [{destination: {host: two.tls.test}}]"], gateways=None, kind="tls")))
SIDECAR = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["./*", "~app/fixed.test"]}]}
"""


@contextlib.contextmanager
def captured(mode="ALLOW_ANY", more=""):
    """The lab with half of the backends' addresses captured, and two origins there."""
    text = CONFIG + support.mesh_config(f"outboundTrafficPolicy: {{mode: {mode}}}") + more
    with own_lab("captured", text, lambda node: node + "captured: [198.19.0.64/26]\n") as folder:
        origins = [support.Origin(FIRST, "first"), support.Origin(SECOND, "second"), support.Origin(FIRST, "raw", 9001), support.Origin(SECOND, "outside", 9001),
                   support.Origin(SECOND, "nobodys", 9100), told.Named(FIRST, b"1"), told.Named(SECOND, b"2"), told.Named(SECOND, b"at", 9443)]
        try:
            yield os.path.join(folder, "config")
        finally:
            for origin in origins:
                origin.kill()


def ask(host, address, path="/", port=8080, method="GET"):
    status, headers, body = support.ask(host, path, method, address=address, port=port)
    return status, headers.get("x-origin"), body, headers


def refused(address, port):
    try:
        s = support.connect(address, port, 3)
    except OSError:
        return True
    with s:
        try:
            s.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") # the RST may be here before it
            return not s.recv(100)
        except ConnectionError:
            return True


@support.rows("DR-9")
def test_connections_go_on_to_where_they_went():
    with captured():
        log = support.Log()
        for address, origin in ((FIRST, "first"), (SECOND, "second"), (FIRST, "first")):
            check(ask("web.test", address)[:2] == (200, origin), f"{address}: {ask('web.test', address)}")
            check(ask("unknown.test", address, "/free")[:2] == (200, origin), f"{address} of nobody: {ask('unknown.test', address)}")
        status, origin, _, headers = ask("web.test", FIRST, "/told")
        check((status, origin) == (200, "first") and headers.get("server") == "envoy", f"{status} {headers}")
        check(ask("web.test", SECOND, "/here")[0] == 418, "a direct response for a captured address")
        line = log.find("/free", FIRST)
        check(f'"{FIRST}:8080" PassthroughCluster' in line and f"{FIRST}:8080" in line.split("PassthroughCluster")[1], line)
        # a service whose address is captured: its endpoints; with PASSTHROUGH its address itself
        check(ask("fixed.test", "198.19.0.70", port=8081)[:2] == (200, "first"), f"STATIC: {ask('fixed.test', '198.19.0.70', port=8081)}")
        check(ask("pass.app", SECOND)[:2] == (200, "second"), f"PASSTHROUGH: {ask('pass.app', SECOND)}")
        # TCP by ranges
        check(ask("raw", FIRST, port=9001)[:2] == (200, "raw"), f"TCP in range: {ask('raw', FIRST, port=9001)}")
        check(ask("raw", SECOND, port=9001)[:2] == (200, "outside"), f"TCP out of range: {ask('raw', SECOND, port=9001)}")
        # nobody there
        status, _, body, _ = ask("web.test", NOBODY)
        check(status == 503 and b"upstream connect error" in body, f"{status} {body}")
        check("UF" in log.find(f'"{NOBODY}:8080" outbound|8080||web.test'), "UF is not in the log")
        # what is not captured, or ours
        check(refused("198.19.0.1", 8080), "our own address is served as if it were captured")


def tls_reaches(name, address=NOBODY):
    return told.reaches(name, address)


def test_tls_goes_by_its_name():
    with captured():
        log = support.Log()
        for name, who, cluster in (("one.tls.test", b"1", "outbound|9443||one.tls.test"), ("ONE.tls.test", b"1", "outbound|9443||one.tls.test"),
                                   ("a.wild.tls.test", b"1", "outbound|9443||*.wild.tls.test"), ("two.tls.test", b"2", "outbound|9443||two.tls.test"),
                                   ("moved.tls.test", b"2", "outbound|9443||two.tls.test")):
            found = tls_reaches(name)
            check(found == who, f"{name}: {found}")
            log.find(cluster, f" {name.lower()} ")
        # a name that nobody described, and none, go on to where they went; so does who speaks first
        check(tls_reaches("other.test", SECOND) == b"at", "an unknown name")
        check(tls_reaches(None, SECOND) == b"at", "no name")
        log.find("PassthroughCluster", " other.test ")
        with support.connect(SECOND, 9443, 8) as s:
            check(s.recv(2) == b"at", "a server that speaks first is not heard")


def test_ports_that_nobody_described():
    with captured():
        log = support.Log()
        check(ask("any.test", SECOND, port=9100)[:2] == (200, "nobodys"), f"{ask('any.test', SECOND, port=9100)}")
        line = log.find("PassthroughCluster", f'"{SECOND}:9100"')
        check('"- - -" 0 - ' in line, line)
        check(refused(SECOND, 9101), "a port that nobody listens at is served")
        log.find("PassthroughCluster", f'"{SECOND}:9101"', " UF,URX ")
        check(refused("198.19.0.1", 9100), "a port of our own is served")
        check(refused(support.GATEWAY, 9100), "a port of the gateway's is served")


def test_registry_only_blocks_what_nobody_described():
    for mode, more in (("REGISTRY_ONLY", ""), ("ALLOW_ANY", SIDECAR)):
        with captured(mode, more):
            log = support.Log()
            check(ask("unknown.test", FIRST)[0] == 502, f"{ask('unknown.test', FIRST)}")
            check(ask("web.test", FIRST)[:2] == (200, "first"), f"{ask('web.test', FIRST)}")
            check(refused(SECOND, 9100), "a port that nobody described is served")
            log.find("BlackHoleCluster", " UH ", f"{SECOND}:9100")
            if more:
                check(refused("198.19.0.70", 8081), "a host that the Sidecar takes away is served")
            else:
                check(ask("fixed.test", "198.19.0.70", port=8081)[:2] == (200, "first"), f"STATIC: {ask('fixed.test', '198.19.0.70', port=8081)}")
            check(tls_reaches("one.tls.test") == b"1" and tls_reaches("other.test", SECOND) == b"", "TLS by its name")
