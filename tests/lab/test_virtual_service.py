"""What a VirtualService can say, row by row of docs/istio-rows.md (tools/check_rows.py): each case looks at the answer, the origin, the access log and, in the
end, the metrics."""
import atexit
import base64
import math
import os
import re
import socket
import subprocess
import tempfile

import run
import support
import told
from foilrun import lab
from resources import GATEWAYS, destination_rule, service, service_entry, virtual_service
from support import check, wait_for
from told import Grew, Named, Table, at, hello, on, says, to, validate

STATE = {}
UC = "upstream connect error or disconnect/reset before headers. "
CONFIG = support.mesh_config() + support.gateway(
    support.HTTP_80,
    '{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}',
    '{port: {number: 9001, name: tcp-none, protocol: TCP}, hosts: ["*"]}',
    '{port: {number: 9443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}') + support.gateway(
    '{port: {number: 8081, name: http-2, protocol: HTTP}, hosts: ["*"]}',
    name="second") + "".join((
        service_entry("a", "198.19.0.50"), service_entry("none"), service_entry("shadow", "198.19.0.52"),
        service_entry("b", "198.19.0.51", ports="[{number: 8080, name: http, protocol: HTTP}, {number: 8081, name: http-two, protocol: HTTP, targetPort: 8080}]"),
        service_entry("down", "{address: 198.19.0.59, ports: {http: 9}}"),
        service_entry("half", "{address: 198.19.0.59, ports: {http: 9}}", "198.19.0.50"), destination_rule("half", "half.test", "loadBalancer: {simple: ROUND_ROBIN}"),
        service_entry("raw", "{address: 198.19.0.50, labels: {v: a}}", "{address: 198.19.0.51, labels: {v: b}}", ports="[{number: 9000, name: tcp, protocol: TCP}]"),
        destination_rule("raw", "raw.test", "", "{name: a, labels: {v: a}}, {name: b, labels: {v: b}}"),
        service("svc", "clusterIP: 198.18.10.60, selector: {app: svc}", "198.19.0.50"), service("headless", "clusterIP: None, selector: {app: headless}", "198.19.0.51"),
        service("alias", "type: ExternalName, externalName: svc.app.svc.cluster.local")))
A = "route: [{destination: {host: a.test}}]"
B = "route: [{destination: {host: b.test, port: {number: 8080}}}]"


def set_up():
    if STATE:
        check(STATE.get("origins"), "the lab did not come up")
        return
    folder = tempfile.mkdtemp(prefix="foil-vs-")
    support.replace(os.path.join(folder, "all.yaml"), CONFIG + "".join(virtual_service(*v) for v in SERVICES.values()))
    STATE.update(folder=folder)
    status, text = run.quietly_up(folder)
    check(status == 0, text)
    STATE.update(folder=folder, origins=[told.Told("198.19.0.50", "a"), told.Told("198.19.0.51", "b"), told.Told("198.19.0.52", "s")],
                 echo=[Named("198.19.0.50", b"a"), Named("198.19.0.51", b"b")])
    atexit.register(lambda: subprocess.run(["rm", "-rf", folder]))


def table(**usual):
    set_up()
    for origin in STATE["origins"]:
        origin.calm()
    return Table(STATE["origins"], **usual)


# ---- hosts, gateways, order

SERVICES = {
    "hosts": ("hosts", '[web.rows.test, "*.wild.test", "198.18.0.1"]', [A]),
    "short": ("short", "[svc]", ["route: [{destination: {host: svc}}]"]),
    "exact": ("exact", '[one.wild.test, "*.deep.wild.test"]', [B]),
    "all": ("all", '["*"]', [says("all")], "[istio-system/second]"),
    "in-mesh": ("in-mesh", "[svc.app.svc.cluster.local]", [
        on("{uri: {prefix: /mesh}, gateways: [mesh]}", says("mesh")), on("{uri: {prefix: /gw}, gateways: [istio-system/second]}", says("gateway")),
        "route: [{destination: {host: svc}}]"], "[mesh]"),
    "in-mesh-later": ("in-mesh-later", "[svc.app.svc.cluster.local]", [says("later")], "[mesh]", "2026-03-01T00:00:00Z"),
    "two-gateways": ("two-gateways", "[gw.rows.test]", [
        on("{uri: {prefix: /only-2}, gateways: [istio-system/second]}", says("second")), says("both")], "[istio-system/main, istio-system/second]"),
    "merge-old": ("merge-old", "[merge.rows.test]", [at("/old", says("old")), says("old-all")]),
    "merge-new": ("merge-new", "[merge.rows.test]", [at("/old", says("never")), at("/new", says("new"))], GATEWAYS, "2026-02-01T00:00:00Z"),
    "order": ("order", "[order.rows.test]", [
        at("/x", says("first")), at("/x/y", says("hidden")), on("{uri: {prefix: /}}", says("catch-all")), at("/later", says("never"))]),
    "matches": ("matches", "[match.rows.test]", [
        on("{uri: {prefix: /and}, method: {exact: GET}, headers: {x-a: {exact: '1'}}}, {uri: {exact: /or}}", says("and-or")),
        at("/seg", says("prefix")), on("{uri: {exact: /Exact}}", says("exact")), on("{uri: {exact: /FOLD}, ignoreUriCase: true}", says("fold")),
        on("{uri: {prefix: /foldp}, ignoreUriCase: true}", says("foldp")), on("{uri: {regex: '/rx/[a-c]+'}}", says("regex")),
        on("{uri: {regex: '/RX/[A-C]+'}, ignoreUriCase: true}", says("regex-case")),
        on("{uri: {prefix: /meth}, method: {regex: 'P.*'}}", says("method")), on("{uri: {prefix: /scheme}, scheme: {exact: http}}", says("scheme")),
        on("{uri: {prefix: /auth}, authority: {exact: match.rows.test}}", says("authority")),
        on("{uri: {prefix: /auth}, authority: {prefix: 'match.rows.test:'}}", says("authority-port")),
        on("{uri: {prefix: /h}, headers: {x-a: {exact: 'v'}}}", says("h-exact")), on("{uri: {prefix: /h}, headers: {X-A: {prefix: 'pre'}}}", says("h-prefix")),
        on("{uri: {prefix: /h}, headers: {x-a: {regex: '1,.*'}}}", says("h-several")), on("{uri: {prefix: /h}, headers: {x-b: {}}}", says("h-present")),
        on("{uri: {prefix: /h}, headers: {x-c: {regex: '*'}}}", says("h-star")),
        on("{uri: {prefix: /wo}, withoutHeaders: {x-no: {exact: '1'}}}", says("without")), on("{uri: {prefix: /wp}, withoutHeaders: {x-no: {}}}", says("without-any")),
        on("{uri: {prefix: /wr}, withoutHeaders: {x-no: {regex: 'z*'}}}", says("without-regex")),
        on("{uri: {prefix: /q}, queryParams: {a: {exact: '1'}}}", says("q-exact")), on("{uri: {prefix: /q}, queryParams: {b: {prefix: 'p'}}}", says("q-prefix")),
        on("{uri: {prefix: /q}, queryParams: {c: {regex: '[0-9]+'}}}", says("q-regex")), on("{uri: {prefix: /q}, queryParams: {d: {}}}", says("q-present")),
        on("{uri: {prefix: /q}, queryParams: {e: {exact: ''}}}", says("q-empty"))]),
}


def here(t, rows, path, word, **more):
    """A direct response says which rule it was; None: no rule."""
    if word is None:
        return t.case(rows, path, 404, body="", flags="NR", details="route_not_found", answer={"content-length": "0"}, **more)
    return t.case(rows, path, 200, body=word, details="direct_response", answer={"content-length": str(len(word)), "content-type": "text/plain"}, **more)


def test_hosts():
    t = table()
    for host in ("web.rows.test", "WEB.Rows.TEST", "web.rows.test:8080", "x.wild.test", "x.y.wild.test", "198.18.0.1", "198.18.0.1:80"):
        t.case("VS-1 VS-2", "/h", host=host, origin="a", cluster="outbound|8080||a.test", saw={"host": host})
    t.case("VS-1", host="svc.app.svc.cluster.local", origin="a", cluster="outbound|8080||svc.app.svc.cluster.local")
    for host in ("one.wild.test", "a.deep.wild.test", "a.b.deep.wild.test"):
        t.case("VS-2", host=host, origin="b", cluster="outbound|8080||b.test")
    for host in ("wild.test", "rows.test", "svc", "nobody.test"):
        here(t, "VS-2", "/nobody", None, host=host)
    here(t, "VS-2", "/nobody", "all", host="nobody.test", port=8081)
    t.end()


def test_names_of_services():
    t = table(address="198.18.10.60", port=8080)
    for host in ("svc.app.svc.cluster.local", "svc.app.svc.cluster.local.", "svc.app.svc", "svc.app", "svc", "svc.app:8080", "SVC.app", "198.18.10.60",
                 "198.18.10.60:8080", "alias.app.svc.cluster.local", "alias.app"):
        t.case("VS-3", "/s", host=host, origin="a", cluster="outbound|8080||svc.app.svc.cluster.local", answer={"server": "envoy"}, saw={"host": host})
    for host in ("headless.app", "pod-0.headless.app.svc.cluster.local", "pod-0.headless.app"):
        t.case("VS-3", "/s", host=host, origin="b", cluster="outbound|8080||headless.app.svc.cluster.local")
    t.end()


def test_gateways_and_the_mesh():
    t = table()
    here(t, "VS-4", "/mesh", "mesh", host="svc.app", address="198.18.10.60", port=8080)
    t.case("VS-4", "/gw", host="svc.app", address="198.18.10.60", port=8080, origin="a")
    here(t, "VS-4", "/gw", "all", host="svc.app.svc.cluster.local", port=8081)  # the list of the VirtualService has the mesh alone: it does not exist there
    here(t, "VS-4", "/only-2", "second", host="gw.rows.test", port=8081)
    here(t, "VS-4", "/only-2", "both", host="gw.rows.test")
    here(t, "VS-4", "/else", "both", host="gw.rows.test", port=8081)
    # merged at a gateway, catch-alls behind; in the mesh the oldest alone
    for path, word in (("/old", "old"), ("/new", "new"), ("/else", "old-all")):
        here(t, "VS-5", path, word, host="merge.rows.test")
    t.case("VS-5", "/later", host="svc.app", address="198.18.10.60", port=8080, origin="a")
    for path, word in (("/x/y", "first"), ("/later", "catch-all"), ("/", "catch-all")):
        here(t, "VS-6", path, word, host="order.rows.test")
    t.end()


def test_matches():
    t = table(host="match.rows.test")
    for rows, path, headers, word in (
            ("VS-7", "/and", {"x-a": "1"}, "and-or"), ("VS-7", "/and", {"x-a": "2"}, None), ("VS-7", "/and", {}, None), ("VS-7", "/or", {}, "and-or"),
            ("VS-8", "/seg", {}, "prefix"), ("VS-8", "/segment/x", {}, "prefix"), ("VS-8", "/SEG", {}, None), ("VS-8", "/Exact?x=/seg", {}, "exact"),
            ("VS-8", "/Exact#f", {}, "exact"), ("VS-8", "/exact", {}, None), ("VS-8", "/Exact/", {}, None), ("VS-8", "/fold", {}, "fold"), ("VS-8", "/FoldP/x", {}, "foldp"),
            ("VS-8", "/rx/abc?d", {}, "regex"), ("VS-8", "/rx/abcd", {}, None), ("VS-8", "/x/rx/abc", {}, None), ("VS-8", "/rx/ABC", {}, None),
            ("VS-8", "/RX/ABC", {}, "regex-case"), ("VS-8", "/RX/abc", {}, None),
            ("VS-9", "/scheme", {}, "scheme"), ("VS-9", "/auth", {}, "authority"),
            ("VS-10", "/h", {"x-a": "v"}, "h-exact"), ("VS-10", "/h", {"X-A": "v"}, "h-exact"), ("VS-10", "/h", {"x-a": "V"}, None),
            ("VS-10", "/h", {"x-a": "prefix"}, "h-prefix"), ("VS-10", "/h", [("x-a", "0"), ("x-a", "1,2")], "h-several"), ("VS-10", "/h", [("x-a", "1"), ("x-a", "2")], None),
            ("VS-10", "/h", {"x-b": ""}, "h-present"), ("VS-10", "/h", {"x-c": "anything"}, "h-star"),
            ("VS-11", "/wo", {}, "without"), ("VS-11", "/wo", {"x-no": "1"}, None), ("VS-11", "/wo", {"x-no": "2"}, "without"), ("VS-11", "/wp", {}, "without-any"),
            ("VS-11", "/wp", {"x-no": ""}, None), ("VS-11", "/wr", {}, None), ("VS-11", "/wr", {"x-no": "a"}, "without-regex"),
            ("VS-13", "/q?a=1", {}, "q-exact"), ("VS-13", "/q?a=2&a=1", {}, None), ("VS-13", "/q?x=y&a=1", {}, "q-exact"), ("VS-13", "/q?a=%31", {}, None),
            ("VS-13", "/q?b=pq", {}, "q-prefix"), ("VS-13", "/q?c=12", {}, "q-regex"), ("VS-13", "/q?c=1x", {}, None), ("VS-13", "/q?d", {}, "q-present"),
            ("VS-13", "/q?e", {}, "q-empty"), ("VS-13", "/q?e=", {}, "q-empty"), ("VS-13", "/q?A=1", {}, None), ("VS-13", "/q", {}, None)):
        here(t, rows, path, word, headers=headers)
    here(t, "VS-7", "/and", None, headers={"x-a": "1"}, method="PUT")
    for method, word in (("PUT", "method"), ("POST", "method"), ("GET", None)):
        here(t, "VS-9", "/meth", word, method=method)
    here(t, "VS-9", "/auth", "authority-port", host="match.rows.test:8080")
    here(t, "VS-9", "/auth", None, host="MATCH.rows.test")
    t.end()


# ---- destinations, headers, rewrites

SERVICES.update({
    "weights": ("weights", "[weights.rows.test]", [
        at("/zero", f"route: [{to('a.test', 0)}]"), at("/split", f"route: [{to('a.test', 2)}, {to('b.test', 1)}, {to('shadow.test', 0)}]"), at("/thousand", f"route: [{to('a.test', 1500)}, {to('b.test', 500)}]"),
        at("/kept", f"retries: {{attempts: 3, retryOn: 5xx, backoff: 1ms}}, route: [{to('a.test', 50)}, {to('b.test', 50)}]")]),
    "places": ("places", "[places.rows.test]", [
        at("/port-of-one", A), at("/port-of-listener", "route: [{destination: {host: b.test}}]"), at("/unknown", "route: [{destination: {host: nobody.test, port: {number: 8080}}}]"),
        at("/empty", f"route: [{to('none.test')}]"), at("/subset", "route: [{destination: {host: a.test, subset: v9, port: {number: 8080}}}]")],
        "[istio-system/second]"),
    "operations": ("operations", "[ops.rows.test]", [
        at("/one", "headers: {request: {set: {x-s: route}, add: {x-a: route}}, response: {set: {x-rs: route}}}, route: ["
           + to("a.test", headers="{request: {set: {x-s: destination}, add: {x-a: destination}}, response: {set: {x-rs: destination}}}") + "]"),
        at("/many", "headers: {request: {set: {x-s: route}}, response: {set: {x-rs: route}}}, route: ["
           + to("a.test", 1, "{request: {set: {x-s: destination}}, response: {set: {x-rs: destination}}}") + ", "
           + to("a.test", 1, "{request: {set: {x-s: destination}}, response: {set: {x-rs: destination}}}") + "]"),
        at("/rm", "headers: {request: {remove: [x-in, x-both], add: {x-both: new}, set: {x-set: s, ':path': /no, ':method': PUT}}, response: {remove: [x-origin2], "
           "add: {x-radd: r}}}, " + A),
        at("/authority-set", "headers: {request: {set: {host: set.test}}}, " + A), at("/authority-add", "headers: {request: {add: {':authority': add.test}}}, " + A),
        at("/authority-both", "headers: {request: {set: {Host: set.test}}}, route: [" + to("a.test", headers="{request: {set: {host: destination.test}}}") + "]"),
        at("/authority-destination", "route: [" + to("a.test", headers="{request: {set: {host: destination.test}}}") + "]"),
        at("/authority-rewrite", "rewrite: {authority: rewrite.test}, route: [" + to("a.test", headers="{request: {set: {host: destination.test}}}") + "]")]),
    "rewrites": ("rewrites", "[rewrite.rows.test]", [
        at("/foo", "rewrite: {uri: /bar}, " + A), at("/root", "rewrite: {uri: /}, " + A), at("/slash/", "rewrite: {uri: /}, " + A),
        on("{uri: {exact: /whole}}", "rewrite: {uri: /all}, " + A), on("{uri: {regex: '/rx/.*'}}", "rewrite: {uri: /regex}, " + A)]),
    "redirects": ("redirects", "[redirect.rows.test]", [
        at("/default", "redirect: {uri: /new}"), at("/query", "redirect: {uri: '/new?own=1'}"), at("/prefix", "redirect: {prefixRewrite: /swapped}"),
        at("/root", "redirect: {prefixRewrite: /}"), at("/authority", "redirect: {authority: other.test}"), at("/scheme", "redirect: {scheme: https}"),
        at("/port443", "redirect: {scheme: https, port: 443}"), at("/port80", "redirect: {port: 80}"), at("/port8443", "redirect: {scheme: https, port: 8443}"),
        at("/derive", "redirect: {uri: /d, derivePort: FROM_REQUEST_PORT}"),
    ] + [at(f"/code{code}", f"redirect: {{uri: /new, redirectCode: {code}}}") for code in (301, 302, 303, 307, 308)]),
    "direct": ("direct", "[direct.rows.test]", [
        at("/string", "directResponse: {status: 418, body: {string: tea}}"), at("/none", "directResponse: {status: 204}"),
        at("/bytes", f"directResponse: {{status: 599, body: {{bytes: {base64.b64encode(b'raw').decode()}}}}}"),
        at("/typed", "directResponse: {status: 200, body: {string: '{}'}}, headers: {response: {set: {content-type: application/json, x-more: m}}}"),
        at("/grpc", "directResponse: {status: 403}")]),
})


def test_weights():
    t = table(host="weights.rows.test")
    check({got.headers["x-origin"] for got, _ in t.many(10, "/zero")} == {"a"}, "VS-17: a single destination of weight 0 does not get everything")
    t.case("VS-17", "/zero", origin="a", cluster="outbound|8080||a.test")
    n = 400
    for path, share in (("/split", 1 / 3), ("/thousand", 1 / 4)):
        reached = [got.headers["x-origin"] for got, _ in t.many(n, path)]
        n_b, sigma = reached.count("b"), math.sqrt(n * share * (1 - share))
        check(set(reached) == {"a", "b"} and abs(n_b - n * share) <= 5 * sigma, f"VS-17 {path}: {n_b} of {n} at b")
    for _ in range(8):  # a request stays where the draw sent it, however often it is tried
        _, line, requests = t.case("VS-62", "/kept", 500, flags="URX", details="via_upstream", n_saw=4, headers={"x-do": "status=500"},
                                   body="", method="HEAD", answer={"content-length": "13"})
        check(len({r["origin"] for r in requests}) == 1, f"VS-62: {[r['origin'] for r in requests]}")
    t.end()


def test_destinations_that_are_not_there():
    t = table(host="places.rows.test", port=8081)
    t.case("VS-18", "/port-of-one", origin="a", cluster="outbound|8080||a.test")
    t.case("VS-18", "/port-of-listener", origin="b", cluster="outbound|8081||b.test")
    t.case("VS-18", "/unknown", 503, body="", flags="NC", details="cluster_not_found", answer={"content-length": "0"}, cluster="-")
    t.case("VS-20", "/subset", 503, body="", flags="NC", details="cluster_not_found", answer={"content-length": "0"}, cluster="-")
    t.case("VS-19", "/empty", 503, body="no healthy upstream", flags="UH", details="no_healthy_upstream", answer={"content-type": "text/plain"}, cluster="outbound|8080||none.test")
    t.end()


def test_header_operations():
    t = table(host="ops.rows.test")
    t.case("VS-21 VS-22", "/one", origin="a", headers={"x-s": "client", "x-a": "client"}, saw={"x-s": "destination", "x-a": "client,route,destination"}, answer={"x-rs": "destination"})
    t.case("VS-21", "/many", origin="a", headers={"x-s": "client"}, saw={"x-s": "route"}, answer={"x-rs": "route"})
    t.case("VS-22", "/rm", origin="a", headers={"x-in": "1", "x-both": "old", "x-set": "client", "x-do": "set=x-origin2:o"}, answer={"x-origin2": None, "x-radd": "r"},
           saw={"x-in": None, "x-both": "new", "x-set": "s", "path": "/rm", "method": "GET"})
    for path, host in (("set", "set.test"), ("add", "add.test"), ("both", "set.test"), ("destination", "destination.test"), ("rewrite", "rewrite.test")):
        t.case("VS-23", "/authority-" + path, origin="a", saw={"host": host})
    t.end()


def test_rewrites():
    t = table(host="rewrite.rows.test")
    for path, became in (("/foo/x?q=1", "/bar/x?q=1"), ("/foobar", "/barbar"), ("/foo", "/bar"), ("/root/x", "//x"), ("/slash/x", "/x"), ("/whole?q", "/all?q"),
                         ("/rx/any/thing?q=2", "/regex?q=2")):
        t.case("VS-25", path, origin="a", saw={"path": became, "x-envoy-original-path": path})
    t.end()


def test_redirects():
    t = table(host="redirect.rows.test")
    for rows, path, code, where in (
            ("VS-29", "/default/x?q=1", 301, "http://redirect.rows.test/new?q=1"), ("VS-29", "/query?q=1", 301, "http://redirect.rows.test/new?own=1"),
            ("VS-29", "/prefix/x?q=1", 301, "http://redirect.rows.test/swapped/x?q=1"), ("VS-29", "/root/x", 301, "http://redirect.rows.test//x"),
            ("VS-29", "/authority/x", 301, "http://other.test/authority/x"),
            ("VS-30", "/scheme", 301, "https://redirect.rows.test/scheme"), ("VS-30", "/port443", 301, "https://redirect.rows.test/port443"),
            ("VS-30", "/port80", 301, "http://redirect.rows.test/port80"), ("VS-30", "/port8443", 301, "https://redirect.rows.test:8443/port8443"),
            ("VS-30", "/derive", 301, "http://redirect.rows.test/d")):
        t.case(rows, path, code, body="", details="direct_response", answer={"location": where, "content-length": "0"})
    for code in (301, 302, 303, 307, 308):
        t.case("VS-29", f"/code{code}", code, body="", details="direct_response", answer={"location": "http://redirect.rows.test/new"})
    t.case("VS-30", "/scheme", 301, host="redirect.rows.test:80", body="", details="direct_response", answer={"location": "https://redirect.rows.test/scheme"})
    t.case("VS-30", "/default", 301, host="redirect.rows.test:8080", body="", details="direct_response", answer={"location": "http://redirect.rows.test:8080/new"})
    t.end()


def test_direct_responses():
    t = table(host="direct.rows.test")
    t.case("VS-32", "/string", 418, body="tea", details="direct_response", answer={"content-type": "text/plain", "content-length": "3"})
    t.case("VS-32", "/none", 204, body="", details="direct_response", answer={"content-type": None})
    t.case("VS-32", "/bytes", 599, body="raw", details="direct_response", answer={"content-type": "text/plain"})
    t.case("VS-32", "/typed", 200, body="{}", details="direct_response", answer={"content-type": "application/json", "x-more": "m"})
    t.case("VS-32", "/grpc", 200, body="", details="direct_response", headers={"content-type": "application/grpc"}, method="POST", answer={"content-type": "application/grpc", "grpc-status": "7"})
    t.end()


# ---- timeouts and retries

def tries(path, words, to_host=A):
    return at(path, f"retries: {{{words}}}, {to_host}")


SERVICES.update({
    "times": ("times", "[times.rows.test]", [
        at("/short", "timeout: 0.3s, retries: {attempts: 0}, " + A), at("/zero", "timeout: 0s, retries: {attempts: 0}, " + A), at("/unset", "retries: {attempts: 0}, " + A),
        at("/all-tries", "timeout: 0.5s, retries: {attempts: 10, retryOn: 5xx, perTryTimeout: 0.2s, backoff: 1ms}, " + A),
        at("/per-try", "retries: {attempts: 2, retryOn: '5xx', perTryTimeout: 0.15s, backoff: 1ms}, " + A),
        at("/not-per-try", "retries: {attempts: 2, retryOn: 'connect-failure', perTryTimeout: 0.15s, backoff: 1ms}, " + A)]),
    "retries": ("retries", "[retries.rows.test]", [
        at("/default", A), at("/down", f"route: [{to('down.test')}]"), at("/half", f"route: [{to('half.test')}]"), tries("/off", "attempts: 0", f"route: [{to('down.test')}]"),
        tries("/two", "attempts: 2, backoff: 1ms, retryOn: 5xx"), tries("/no-on", "attempts: 3, backoff: 1ms"),
        tries("/no-list", "attempts: 1, backoff: 1ms", f"route: [{to('down.test')}]"),
        tries("/codes", "attempts: 1, backoff: 1ms, retryOn: ' 418, reset'"), tries("/slow", "attempts: 2, backoff: 200ms, retryOn: 5xx"),
        tries("/limited", "attempts: 2, backoff: 1ms, retryOn: '5xx,envoy-ratelimited'")] +
        [tries("/on/" + kind + "/", f"attempts: 1, backoff: 1ms, retryOn: '{kind}'") for kind in (
            "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "cancelled", "deadline-exceeded", "resource-exhausted",
            "internal", "unavailable")] +
        [tries("/on-down/" + kind + "/", f"attempts: 1, backoff: 1ms, retryOn: '{kind}'", f"route: [{to('down.test')}]") for kind in ("5xx", "gateway-error", "connect-failure", "reset", "retriable-4xx")]),
})


def test_timeouts():
    t = table(host="times.rows.test")
    late = {"content-type": "text/plain", "content-length": "24"}
    with Grew("foil_mesh_timeouts_total", 2):
        _, line, _ = t.case("VS-33", "/short", 504, body="upstream request timeout", flags="UT", details="response_timeout", n_saw=1, headers={"x-do": "sleep=1"}, answer=late)
        check(290 <= int(line["ms"]) < 900, f"VS-33: after {line['ms']} ms")
        _, line, requests = t.case("VS-33", "/all-tries", 504, body="upstream request timeout", flags="UT", details="response_timeout", n_saw=3, headers={"x-do": "sleep=1"}, answer=late)
        check(490 <= int(line["ms"]) < 1100, f"VS-33: tries took {line['ms']} ms")
    for path in ("/zero", "/unset"):
        t.case("VS-33", path, origin="a", headers={"x-do": "sleep=0.5"})
    # after the answer's head: the rest stays away, and the connection ends
    got, line, _ = t.case("VS-33", "/short", 200, origin="a", body="a", is_whole=False, flags="UT", details="response_timeout", headers={"x-do": "half=1.5"})
    with Grew("foil_mesh_per_try_timeouts_total", 4):
        _, line, requests = t.case("VS-41", "/per-try", 504, body="upstream request timeout", flags="URX,UT", details="upstream_per_try_timeout", n_saw=3, headers={"x-do": "sleep=1"})
        check(440 <= int(line["ms"]) < 1400, f"VS-41: {line['ms']} ms")
        t.case("VS-41", "/not-per-try", 504, body="upstream request timeout", flags="UT", details="upstream_per_try_timeout", n_saw=1, headers={"x-do": "sleep=1"})
    t.end()


def answered(t, rows, path, status, words, n_saw, flags="-", **more):
    """The origin's own answer reached the client after n_saw tries."""
    return t.case(rows, path, status, origin="a", flags=flags, details="via_upstream", n_saw=n_saw, headers={"x-do": words}, saw={"x-envoy-attempt-count": str(n_saw)}, **more)


def test_retries():
    t = table(host="retries.rows.test")
    refused = "remote connection failure"
    answered(t, "VS-36", "/default", 503, "status=503", 1)
    t.case("VS-36", "/default", 200, origin="a", n_saw=2, headers={"x-do": "status=200 set=grpc-status:14 first=1"}, saw={"x-envoy-attempt-count": "2"})
    with Grew("foil_mesh_retries_total", 3):
        t.case("VS-36", "/down", 503, body=UC + "retried and the latest reset reason: " + refused, flags="URX,UF", details="upstream_reset_before_response_started{remote_connection_failure}")
        t.case("VS-37", "/no-list", 503, body=UC + "retried and the latest reset reason: " + refused, flags="URX,UF", details="upstream_reset_before_response_started{remote_connection_failure}")
    t.case("VS-36", "/off", 503, body=UC + "reset reason: " + refused, flags="UF", details="upstream_reset_before_response_started{remote_connection_failure}")
    for _ in range(4):
        t.case("VS-36", "/half", origin="a")
    answered(t, "VS-37", "/two", 500, "status=500", 3, "URX")
    answered(t, "VS-37", "/two", 200, "status=500 first=2", 3)
    answered(t, "VS-37", "/no-on", 503, "status=503", 1)
    for words, n in (("status=418", 2), ("status=503", 1), ("status=404", 1)):
        answered(t, "VS-38", "/codes", int(words[7:]), words, n, "URX" if n > 1 else "-")
    t.case("VS-38", "/codes", 503, body=UC + "retried and the latest reset reason: connection termination", flags="URX,UC",
           details="upstream_reset_before_response_started{connection_termination}", n_saw=2, headers={"x-do": "close"})
    for kind, retried, not_retried in (
            ("5xx", (500, 501, 503, 599), (404, 409)), ("gateway-error", (502, 503, 504), (500, 501)), ("retriable-4xx", (409,), (404, 429, 500)),
            ("reset", (), (503,)), ("connect-failure", (), (503,)), ("reset-before-request", (), (503,))):
        for status in retried:
            answered(t, "VS-39", f"/on/{kind}/", status, f"status={status}", 2, "URX")
        for status in not_retried:
            answered(t, "VS-39", f"/on/{kind}/", status, f"status={status}", 1)
    for kind, n in (("5xx", 2), ("gateway-error", 2), ("reset", 2), ("retriable-4xx", 1), ("connect-failure", 1), ("reset-before-request", 1)):
        again = "retried and the latest reset reason: " if n > 1 else "reset reason: "
        t.case("VS-39", f"/on/{kind}/", 503, body=UC + again + "connection termination", flags="URX,UC" if n > 1 else "UC", n_saw=n, headers={"x-do": "close"},
               details="upstream_reset_before_response_started{connection_termination}")
    for kind, n in (("5xx", 2), ("gateway-error", 2), ("connect-failure", 2), ("reset", 2), ("retriable-4xx", 1)):
        again = "retried and the latest reset reason: " if n > 1 else "reset reason: "
        t.case("VS-39", f"/on-down/{kind}/", 503, body=UC + again + refused, flags="URX,UF" if n > 1 else "UF", details="upstream_reset_before_response_started{remote_connection_failure}")
    for kind, status in (("cancelled", 1), ("deadline-exceeded", 4), ("resource-exhausted", 8), ("internal", 13), ("unavailable", 14)):
        answered(t, "VS-40", f"/on/{kind}/", 200, f"set=grpc-status:{status}", 2, "URX", answer={"grpc-status": str(status)})
        answered(t, "VS-40", f"/on/{kind}/", 200, "set=grpc-status:2", 1, answer={"grpc-status": "2"})
    answered(t, "VS-44", "/two", 503, "status=503 set=x-envoy-overloaded:true", 3, "URX")  # of its own answers Envoy says that, an origin's word is none
    answered(t, "VS-44", "/two", 503, "status=503 set=x-envoy-ratelimited:true", 1)
    answered(t, "VS-44", "/limited", 503, "status=503 set=x-envoy-ratelimited:true", 3, "URX")
    answered(t, "VS-44", "/two", 503, "status=503", 1, method="POST", body_of_request=b"x" * (1 << 20) + b"y")
    t.end()


def test_back_off():
    t = table(host="retries.rows.test")
    first, second = [], []
    for _ in range(5):
        _, _, requests = answered(t, "VS-42", "/slow", 500, "status=500", 3, "URX")
        at_s = [r["at"] for r in requests]
        first.append(at_s[1] - at_s[0])
        second.append(at_s[2] - at_s[1])
    check(max(first) < 0.2 + 0.15 and max(second) < 0.6 + 0.15, f"VS-42: waited {first} and {second}")
    check(sum(first) + sum(second) > 0.2, f"VS-42: did not wait: {first} and {second}")
    t.end()


# ---- faults, mirrors, CORS

GO = "route: [{destination: {host: a.test, port: {number: 8080}}}]"
SERVICES.update({
    "faults": ("faults", "[faults.rows.test]", [
        at("/delay", "fault: {delay: {fixedDelay: 0.3s, percentage: {value: 100}}}, " + GO), at("/unset-delay", "fault: {delay: {fixedDelay: 5s}}, " + GO),
        at("/zero-delay", "fault: {delay: {fixedDelay: 5s, percentage: {value: 0}}}, " + GO),
        at("/abort", "retries: {attempts: 3, retryOn: 5xx}, timeout: 0.1s, fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, " + GO),
        at("/both", "fault: {delay: {fixedDelay: 0.2s, percentage: {value: 100}}, abort: {httpStatus: 418, percentage: {value: 100}}}, " + GO),
        at("/grpc", "fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}, " + GO),
        at("/part", "fault: {abort: {httpStatus: 418, percentage: {value: 25}}}, " + GO)]),
    "mirrors": ("mirrors", "[mirror.rows.test]", [
        at("/all", "mirror: {host: shadow.test, port: {number: 8080}}, " + GO), at("/off", "mirror: {host: shadow.test, port: {number: 8080}}, mirrorPercentage: {value: 0}, " + GO),
        at("/some", "mirror: {host: shadow.test, port: {number: 8080}}, mirrorPercentage: {value: 50}, " + GO),
        at("/two", "mirrors: [{destination: {host: shadow.test, port: {number: 8080}}}, {destination: {host: b.test, port: {number: 8080}}}], " + GO),
        at("/dead", "mirror: {host: down.test, port: {number: 8080}}, " + GO)]),
    "cors": ("cors", "[cors.rows.test]", [
        at("/full", "corsPolicy: {allowOrigins: [{exact: 'http://good.test'}, {regex: 'https://.*[.]good[.]test'}, {prefix: 'app:'}], allowMethods: [GET, PUT], "
           "allowHeaders: [x-one, x-two], exposeHeaders: [x-seen], maxAge: 90s, allowCredentials: true}, " + GO),
        at("/any", "corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: ['*'], allowHeaders: ['*']}, " + GO),
        at("/ignore", "corsPolicy: {allowOrigins: [{exact: 'http://good.test'}], allowMethods: [GET], unmatchedPreflights: IGNORE}, " + GO),
        at("/direct", "corsPolicy: {allowOrigins: [{exact: 'http://good.test'}]}, directResponse: {status: 200, body: {string: direct}}")]),
})


def test_faults():
    t = table(host="faults.rows.test")
    _, line, _ = t.case("VS-46", "/delay", origin="a", flags="DI")
    check(290 <= int(line["ms"]) < 1500, f"VS-46: {line['ms']} ms")
    for path in ("/unset-delay", "/zero-delay"):
        _, line, _ = t.case("VS-46", path, origin="a")
        check(int(line["ms"]) < 2000, f"VS-46 {path}: {line['ms']} ms")
    text = {"content-type": "text/plain", "content-length": "18"}
    t.case("VS-47", "/abort", 503, body="fault filter abort", flags="FI", details="fault_filter_abort", answer=text, cluster="outbound|8080||a.test")
    _, line, _ = t.case("VS-46 VS-47", "/both", 418, body="fault filter abort", flags="DI,FI", details="fault_filter_abort", answer=text)
    check(190 <= int(line["ms"]) < 1500, f"VS-47: {line['ms']} ms")
    t.case("VS-47", "/grpc", 200, body="", flags="FI", details="fault_filter_abort", headers={"content-type": "application/grpc"}, method="POST",
           answer={"grpc-status": "8", "grpc-message": "fault filter abort", "content-type": "application/grpc"})
    t.end()
    n, n_bad = 200, 0
    for _ in range(n):
        n_bad += told.send("faults.rows.test", "/part").status == 418
    check(abs(n_bad - n / 4) <= 5 * math.sqrt(n * 3 / 16), f"VS-47: {n_bad} of {n} at 25 %")


def test_mirrors():
    t = table(host="mirror.rows.test")
    shadow = STATE["origins"][2]

    def shadows(path):
        return [r for r in list(shadow.seen) if r["path"].startswith(path)]
    with Grew("foil_mesh_mirrors_total", 3):
        # the shadow is slow: nobody waits for it
        _, line, _ = t.case("VS-49 VS-50", "/all?x=1", method="POST", body_of_request=b"payload", origin="a", headers={"x-do-s": "sleep=0.6"}, saw={"host": "mirror.rows.test"})
        check(int(line["ms"]) < 500, f"VS-49: waited for the shadow, {line['ms']} ms")
        wait_for(lambda: shadows("/all"), 5, "VS-49: no shadow")
        got = shadows("/all")[0]
        check((got["method"], got["path"], got["body"], got["headers"]["host"]) == ("POST", "/all?x=1", b"payload", "mirror.rows.test"), f"VS-49 VS-50: {got}")
        t.case("VS-49", "/off", origin="a", saw={"host": "mirror.rows.test"})
        got, line, _ = t.case("VS-49", "/two", host="mirror.rows.test:8080", status=200, origin="a")
        wait_for(lambda: shadows("/two"), 5, "VS-49: no shadow of two")
        check(shadows("/two")[0]["headers"]["host"] == "mirror.rows.test:8080", f"VS-49: {shadows('/two')}")
        wait_for(lambda: any(r["path"] == "/two" for r in STATE["origins"][1].seen), 5, "VS-49: no second shadow")
        t.case("VS-50", "/dead", origin="a")
    check(not shadows("/off"), "VS-49: mirrored at 0 %")
    t.many(60, "/some")
    wait_for(lambda: 10 <= len(shadows("/some")) <= 50, 5, lambda: f"VS-49: {len(shadows('/some'))} of 60 mirrored at 50 %")


def test_cors():
    t = table(host="cors.rows.test")

    def preflight(rows, path, origin, headers, passes=False, **more):
        asked = {"origin": origin, "access-control-request-method": "PUT", "access-control-request-headers": "x-asked", **more}
        if passes:
            return t.case(rows, path, 200, method="OPTIONS", origin="a", headers=asked, answer=headers)
        return t.case(rows, path, 200, method="OPTIONS", body="", details="cors_response", headers=asked, answer={"content-length": "0", **headers})
    full = {"access-control-allow-credentials": "true", "access-control-allow-methods": "GET,PUT", "access-control-allow-headers": "x-one,x-two", "access-control-max-age": "90"}
    for origin in ("http://good.test", "https://a.good.test", "app:x"):
        preflight("VS-51", "/full", origin, {"access-control-allow-origin": origin, **full})
    preflight("VS-51", "/any", "http://any.test", {"access-control-allow-origin": "http://any.test", "access-control-allow-methods": "PUT",
                                                  "access-control-allow-headers": "x-asked", "access-control-max-age": None})
    nothing = {"access-control-allow-origin": None, "access-control-allow-methods": None}
    preflight("VS-52", "/full", "http://bad.test", nothing, passes=True)
    preflight("VS-52", "/ignore", "http://bad.test", {"access-control-allow-origin": None, "access-control-allow-methods": "GET"})
    t.case("VS-51", "/full", method="OPTIONS", origin="a", headers={"origin": "http://good.test"}, answer={"access-control-allow-methods": None})
    t.case("VS-52", "/full", origin="a", headers={"origin": "http://good.test", "x-do": "set=access-control-allow-origin:own"},
           answer={"access-control-allow-origin": "http://good.test", "access-control-allow-credentials": "true", "access-control-expose-headers": "x-seen"})
    t.case("VS-52", "/full", origin="a", headers={"origin": "http://bad.test"}, answer=nothing)
    t.case("VS-52", "/direct", body="direct", details="direct_response", headers={"origin": "http://good.test"}, answer=nothing)
    t.end()


def test_upgrades():
    t = table(host="places.rows.test", port=8081)
    t.case("VS-60", "/port-of-one", 403, body="", details="upgrade_failed", headers={"connection": "upgrade", "upgrade": "other/1"})
    t.end()


# ---- TCP and TLS

L4 = "route: [{destination: {host: raw.test, subset: %s, port: {number: 9000}}%s}%s]"
SERVICES.update({
    "tcp": ("tcp", '["*"]', [on("{port: 9000}", "route: [{destination: {host: raw.test, subset: a}, weight: 3}, {destination: {host: raw.test, subset: b}, weight: 1}]"),
                             on("{port: 9000}", L4 % ("b", "", ""))], GATEWAYS, "2026-01-01T00:00:00Z", "tcp"),
    "tls": ("tls", '["a.tls.rows.test", "*.any.tls.rows.test"]', [
        on("{sniHosts: [a.tls.rows.test]}", L4 % ("a", "", "")), on('{port: 9443, sniHosts: ["*.any.tls.rows.test"]}', L4 % ("b", "", ""))],
        GATEWAYS, "2026-01-01T00:00:00Z", "tls"),
})


def l4(port, first=b"", source=None):
    """(who answers, all bytes that came): b"" when the connection ends without."""
    with support.connect(port=port, timeout_s=5, source=source) as s:
        try:
            s.sendall(first)
            s.shutdown(socket.SHUT_WR)
            data = b""
            while more := s.recv(65536):
                data += more
        except ConnectionError:
            pass
        return data


def l4_line(t, seen, **wanted):
    """The newest line of L4 that was not there before."""
    def newest():
        lines = [m.groupdict() for text in t.log.lines() if (m := told.L4_LINE.match(text))]
        return lines[seen] if len(lines) > seen else None
    line = wait_for(newest, 5, lambda: "no line of L4: " + " | ".join(t.log.lines()[-3:]))
    for key, value in wanted.items():
        check(line[key] == value, f"{key} is not {value}: {line}")
    return line


@support.rows("VS-56")
def test_tcp_routes():
    t = table()
    n, reached, seen = 80, [], 0
    before = support.Metrics().sum("istio_tcp_connections_closed_total")
    for i in range(n):
        data = l4(9000, b"hello")
        check(data in (b"ahello", b"bhello"), f"VS-56: {data}")
        reached.append(data[:1].decode())
        if i < 4:
            l4_line(t, i, flags="-", received="5", sent="6", cluster=f"outbound|9000|{reached[-1]}|raw.test")
    check(set(reached) == {"a", "b"} and abs(reached.count("b") - n / 4) <= 5 * math.sqrt(n * 3 / 16), f"VS-56: {reached.count('b')} of {n} at b")
    wait_for(lambda: support.Metrics().sum("istio_tcp_connections_closed_total") - before == n, 5, "VS-56: the metrics have not all connections")
    check(l4_refused(9001), "VS-56: a port without a route has served")


def l4_refused(port, first=b"x"):
    try:
        return l4(port, first) == b""
    except OSError:
        return True


@support.rows("VS-57 VS-58")
def test_tls_routes_by_name():
    t = table()
    n = 0
    for name, fill, origin in (("a.tls.rows.test", 0, b"a"), ("A.TLS.rows.test", 0, b"a"), ("x.any.tls.rows.test", 0, b"b"), ("x.y.any.tls.rows.test", 0, b"b"), ("a.tls.rows.test", 12000, b"a")):
        first = hello(name, fill)
        check(l4(9443, first) == origin + first, f"VS-57: {name}")
        line = l4_line(t, n, flags="-", cluster=f"outbound|9000|{origin.decode()}|raw.test")
        check(line["sni"] == name.lower(), f"VS-57: {line}")
        n += 1
    # byte by byte, and in two halves
    first = hello("a.tls.rows.test")
    with support.connect(port=9443) as s:
        for i in range(len(first)):
            s.sendall(first[i:i + 1])
        s.shutdown(socket.SHUT_WR)
        data = b""
        while more := s.recv(65536):
            data += more
    check(data == b"a" + first, f"VS-58: {len(data)} bytes")
    for what, first in (("a name that nobody has", hello("b.tls.rows.test")), ("the suffix alone", hello("any.tls.rows.test")), ("no name", hello(None)), ("no TLS", b"GET / HTTP/1.1\r\nhost: a.tls.rows.test\r\n\r\n")):
        check(l4_refused(9443, first), "VS-57 VS-58: " + what)
    wait_for(lambda: sum(" NR " in line for line in t.log.lines()) >= 3, 5, lambda: "VS-57: no NR: " + " | ".join(t.log.lines()[-4:]))


# ---- what is refused

BAD = (
    ("VS-7", "match: [{}]", "match"), ("VS-17", f"route: [{to('a.test', 0)}, {to('b.test', 0)}]", "weight"), ("VS-17", f"route: [{to('a.test', -1)}, {to('b.test', 2)}]", "weight"),
    ("VS-23", "headers: {request: {set: {host: a, Host: b}}}, " + A, "set"),
    ("VS-29", "redirect: {uri: /x, redirectCode: 304}", "redirectCode"), ("VS-31", "redirect: {uri: /x}, " + A, "redirect"), ("VS-31", "directResponse: {status: 200}, " + A, "directResponse"),
    ("VS-31", "redirect: {uri: /x}, rewrite: {uri: /y}", "rewrite"), ("VS-31", "redirect: {uri: /x}, directResponse: {status: 200}", "directResponse"),
    ("VS-32", "directResponse: {status: 600}", "status"), ("VS-38", "retries: {attempts: 1, retryOn: 'sometimes'}, " + A, "retryOn"), ("VS-47", "fault: {abort: {httpStatus: 199, percentage: {value: 1}}}, " + A, "httpStatus"),
    ("VS-49", "mirror: {host: a.test}, mirrors: [{destination: {host: b.test}}], " + A, "mirror"),
    ("VS-59", at("/x", A).replace("prefix: /x", "regex: '(('"), "regex"), ("VS-59", at("/x", A).replace("prefix: /x", "regex: '(?=x)'"), "regex"),
    ("VS-51", "corsPolicy: {allowOrigins: [{regex: '*'}]}, " + A, "regex"), ("VS-59", at("/x", A).replace("prefix: /x", "regex: '*'"), "regex"),
    ("VS-31", "name: nothing", "route"))


NOTED = (  # what Istio's webhook refuses and istiod, told without it, takes
    ("VS-23", "headers: {request: {set: {host: a, ':authority': b}}}, " + A, "headers"),
    ("VS-23", "rewrite: {authority: a.test}, headers: {request: {add: {Host: b}}}, " + A, "headers"),
    ("VS-31", "redirect: {uri: /x}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", "fault"))


@support.rows("VS-26 VS-57")
def test_refusals():
    set_up()
    for rows, rule, word in BAD:
        status, said = validate(CONFIG + virtual_service("bad", "[bad.rows.test]", [rule]))
        found = [line for line in said.splitlines() if "bad" in line or "error" in line.lower()]
        check(status != 0 and any(re.search(r"all\.yaml:\d+:\d+", line) for line in found) and word.lower() in said.lower(), f"{rows}: {rule}: {status} {said}")
    for rows, rule, word in NOTED:
        status, said = validate(CONFIG + virtual_service("bad", "[bad.rows.test]", [rule]))
        check(status == 0 and re.search(r"all\.yaml:\d+:\d+: warning: VirtualService/app/bad: spec\.http\[0\]\." + word, said), f"{rows}: {rule}: {status} {said}")
    status, said = validate(CONFIG + virtual_service("bad", '["a.tls.rows.test"]', [on("{sniHosts: [b.tls.rows.test]}", L4 % ("a", "", ""))], kind="tls"))
    check("sniHosts" in said, f"VS-57: {status} {said}")
    status, said = validate(CONFIG + """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: segments, namespace: app}
spec: {}
""")
    check("HTTPRoute" in said, f"VS-26: {status} {said}")
    status, said = validate(CONFIG)
    check(status == 0, said)


def test_zz_down():
    for one in STATE.get("origins", []) + STATE.get("echo", []):
        one.kill()
    lab.down(keep_quiet=True)
