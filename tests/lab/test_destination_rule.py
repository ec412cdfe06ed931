"""What a DestinationRule can say, row by row of docs/istio-rows.md (tools/check_rows.py): each case looks at the answer, the origin, the access log and, in the
end, the metrics. A policy that hashes by a cookie shows in the answer which rule was taken: the cookie's name."""
import atexit
import concurrent.futures
import math
import os
import re
import struct
import subprocess
import tempfile
import time

import run
import support
import told
from foilrun import lab
from resources import destination_rule, service, service_entry, virtual_service
from support import check, wait_for
from told import Grew, Named, Table, at, validate

STATE = {}
UC = "upstream connect error or disconnect/reset before headers. "
A, B, C, D, DEAD = (f"198.19.0.{n}" for n in (50, 51, 52, 53, 59))
NAMES = {A: "a", B: "b", C: "c", D: "d"}
CONFIG = support.mesh_config() + support.gateway(
    support.HTTP_80,
    '{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}',
    '{port: {number: 9001, name: tcp-1, protocol: TCP}, hosts: ["*"]}') + service("svc", "clusterIP: 198.18.10.60, selector: {app: svc}", A)


def cookie(name):
    return f"loadBalancer: {{consistentHash: {{httpCookie: {{name: {name}, ttl: 0s}}}}}}"


def served(name, policy, *endpoints, subsets="", routes=None, **more):
    """A ServiceEntry, its DestinationRule, and a VirtualService NAME.rows.test that tries once."""
    routes = routes or [f"retries: {{attempts: 0}}, route: [{{destination: {{host: {name}.test, port: {{number: 8080}}}}}}]"]
    return (service_entry(name, *(endpoints or (A,)), **more) + (destination_rule(name, name + ".test", policy, subsets) if policy or subsets else "")
            + virtual_service(name, f"[{name}.rows.test]", routes))


def to_subset(name, subset, port=8080):
    return f"retries: {{attempts: 0}}, route: [{{destination: {{host: {name}.test, subset: {subset}, port: {{number: {port}}}}}}}]"


TWO_PORTS = "[{number: 8080, name: http, protocol: HTTP}, {number: 8081, name: http-two, protocol: HTTP, targetPort: 8080}]"
OUTLIER = "outlierDetection: {interval: 0.4s, baseEjectionTime: 0.6s, maxEjectionPercent: %d, %s}"
RR = "loadBalancer: {simple: ROUND_ROBIN}"
FOUR = tuple(f"{{address: {a}, labels: {{v: {n}}}}}" for a, n in NAMES.items())
RULES = "".join((
    # whose rule
    served("one.w", ""), served("two.w", ""), destination_rule("wild", "*.w.test", cookie("wild")), destination_rule("exact", "one.w.test", cookie("exact")),
    virtual_service("svc", "[svc.rows.test]", ["route: [{destination: {host: svc}}]"]), destination_rule("short", "svc", cookie("short")),
    served("both", cookie("app")), destination_rule("both-gw", "both.test", cookie("gateway"), namespace="istio-system"),
    served("root", ""), destination_rule("root", "root.test", cookie("root"), namespace="istio-system"),
    served("private", ""), destination_rule("private", "private.test", cookie("private"), more="exportTo: ['.']"),
    served("stranger", ""), destination_rule("stranger", "stranger.test", cookie("stranger"), namespace="elsewhere"),
    # levels
    served("levels", cookie("top") + ", portLevelSettings: [{port: {number: 8081}, connectionPool: {http: {maxRequestsPerConnection: 9}}}]", ports=TWO_PORTS, subsets=(
        "{name: pool, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}, {name: own, trafficPolicy: {" + cookie("own") + "}}, "
        "{name: port, trafficPolicy: {" + cookie("subset") + ", portLevelSettings: [{port: {number: 8080}, " + cookie("subset-port") + "}]}}"),
        routes=[at("/two", "route: [{destination: {host: levels.test, port: {number: 8081}}}]"), at("/pool", to_subset("levels", "pool")),
                at("/own", to_subset("levels", "own")), at("/port2", to_subset("levels", "port", 8081)), at("/port", to_subset("levels", "port")),
                "route: [{destination: {host: levels.test, port: {number: 8080}}}]"]),
    served("subsets", RR, *FOUR, subsets="{name: one, labels: {v: a}}, {name: nobody, labels: {v: z}}, {name: all}, {name: more, labels: {v: a, w: x}}",
           routes=[at("/" + s, to_subset("subsets", s)) for s in ("one", "nobody", "all", "more")]),
    # balancing
    served("least", "", A, B), served("robin", RR, A, B), served("weighted", RR, f"{{address: {A}, weight: 1}}", f"{{address: {B}, weight: 3}}"),
    served("random", "loadBalancer: {simple: RANDOM}", A, B), served("pass", "loadBalancer: {simple: PASSTHROUGH}"),
    served("ring", "loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 1024}}}", A, B, C, D),
    served("maglev", "loadBalancer: {consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 251}}}", A, B, C, D),
    served("query", "loadBalancer: {consistentHash: {httpQueryParameterName: key}}", A, B, C, D),
    served("source", "loadBalancer: {consistentHash: {useSourceIp: true}}", A, B, C, D),
    served("cookie", "loadBalancer: {consistentHash: {httpCookie: {name: sess, ttl: 60s, path: /p}}}", A, B, C, D),
    served("session", "loadBalancer: {consistentHash: {httpCookie: {name: sess, ttl: 0s}}}", A, B, C, D),
    served("given", "loadBalancer: {consistentHash: {httpCookie: {name: sess}}}", A, B, C, D),
    served("far", RR, A, f"{{address: {B}, locality: far/z}}"),
    served("near", RR + ", " + OUTLIER % (100, "consecutive5xxErrors: 3"), A, f"{{address: {B}, locality: far/z}}"),
    served("spill", "loadBalancer: {simple: RANDOM}, outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 100, consecutive5xxErrors: 1}",
           A, B, f"{{address: {C}, locality: far/z}}", f"{{address: {D}, locality: far/z}}"),
    # pools
    served("waits", "connectionPool: {tcp: {maxConnections: 1}}"), served("connects", "connectionPool: {tcp: {connectTimeout: 0.3s}}", "198.19.0.200"),
    served("refuses", "", f"{{address: {DEAD}, ports: {{http: 9}}}}"),
    served("pending", "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"),
    served("active", "connectionPool: {http: {http2MaxRequests: 2}}"), served("short-lived", "connectionPool: {http: {maxRequestsPerConnection: 2}}"),
    served("kept", ""), served("zeros", "connectionPool: {tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 0, maxRequestsPerConnection: 0, maxRetries: 0}}",
                               routes=["retries: {attempts: 1, retryOn: 5xx, backoff: 1ms}, route: [{destination: {host: zeros.test}}]"]),
    served("retries", "connectionPool: {http: {maxRetries: 1}}", routes=["retries: {attempts: 2, retryOn: 5xx, backoff: 400ms}, route: [{destination: {host: retries.test}}]"]),
    service_entry("raw1", A, ports="[{number: 9000, name: tcp, protocol: TCP}]"), destination_rule("raw1", "raw1.test", "connectionPool: {tcp: {maxConnections: 1}}"),
    virtual_service("raw1", "['*']", ["match: [{port: 9000}], route: [{destination: {host: raw1.test}}]"], kind="tcp"),
    # outliers
    served("few", RR + ", outlierDetection: {interval: 10s}", A, B),
    served("single", OUTLIER % (100, "consecutive5xxErrors: 3")), served("local", RR + ", outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 100, consecutive5xxErrors: 2}",
                                                                        A, f"{{address: {DEAD}, ports: {{http: 9}}}}"),
    served("gateway", OUTLIER % (100, "consecutiveGatewayErrors: 2, consecutive5xxErrors: 0")),
    served("third", RR + ", outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 50, consecutive5xxErrors: 1}", A, B, C),
    served("panic", RR + ", outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 100, consecutive5xxErrors: 1, minHealthPercent: 50}", A, B),
    served("lasting", RR + ", outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 100, consecutive5xxErrors: 1}", A, B),
    service_entry("raw2", A, f"{{address: {DEAD}, ports: {{tcp: 9}}}}", ports="[{number: 9000, name: tcp, protocol: TCP}]"),
    destination_rule("raw2", "raw2.test", RR + ", outlierDetection: {interval: 60s, baseEjectionTime: 60s, maxEjectionPercent: 100, consecutive5xxErrors: 1}"),
    virtual_service("raw2", "['*']", ["match: [{port: 9001}], route: [{destination: {host: raw2.test}}]"], kind="tcp"),
))


def set_up():
    if STATE:
        check(STATE.get("origins"), "the lab did not come up")
        return
    folder = tempfile.mkdtemp(prefix="foil-dr-")
    atexit.register(lambda: subprocess.run(["rm", "-rf", folder]))
    support.replace(os.path.join(folder, "all.yaml"), CONFIG + RULES)
    STATE.update(folder=folder)
    status, text = run.quietly_up(folder)
    check(status == 0, text)
    STATE.update(folder=folder, origins=[told.Told(address, name) for address, name in NAMES.items()], echo=[Named(A, b"a")])


def table(name="", **usual):
    set_up()
    for origin in STATE["origins"]:
        origin.calm()
    return Table(STATE["origins"], **({"host": name + ".rows.test"} if name else {}), **usual)


def whose(t, rows, name, path="/", **more):
    """The name of the cookie that the answer has; None without."""
    got, _, _ = t.case(rows, path, origin="a", host=name + ".rows.test", **more)
    return got.headers["set-cookie"].split("=")[0] if "set-cookie" in got.headers else None


def reached(t, n, **request):
    return [got.headers.get("x-origin", got.status) for got, _ in t.many(n, **request)]


def together(n, name, path="/", **headers):
    """n requests at the same time: [(status, headers, body)]."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        answers = list(pool.map(lambda i: told.send(name + ".rows.test", path, headers=headers), range(n)))
    return sorted(((a.status, a.headers, a.body) for a in answers), key=lambda a: a[0])


# ---- whose rule, which level

def test_whose_rule():
    t = table()
    for name, taken in (("one.w", "exact"), ("two.w", "wild"), ("svc", "short"), ("both", "app"), ("root", "root"), ("private", None), ("stranger", None)):
        found = whose(t, "DR-1", name)
        check(found == taken, f"DR-1: {name} has the rule {found}, not {taken}")
    for path, taken, cluster in (("/", "top", "outbound|8080||levels.test"), ("/two", None, "outbound|8081||levels.test"), ("/pool", "top", "outbound|8080|pool|levels.test"),
                                 ("/own", "own", "outbound|8080|own|levels.test"), ("/port", "subset-port", "outbound|8080|port|levels.test"),
                                 ("/port2", "subset", "outbound|8081|port|levels.test")):
        found = whose(t, "DR-3 DR-5", "levels", path, cluster=cluster)
        check(found == taken, f"DR-3: {path} has the policy {found}, not {taken}")
    t.end()


def test_subsets():
    t = table("subsets")
    for _ in range(3):
        t.case("DR-4", "/one", origin="a", cluster="outbound|8080|one|subsets.test")
    for subset in ("nobody", "more"):
        t.case("DR-4", "/" + subset, 503, body="no healthy upstream", flags="UH", details="no_healthy_upstream", cluster=f"outbound|8080|{subset}|subsets.test")
    check(set(reached(t, 8, path="/all")) == set("abcd"), "DR-4: a subset without labels has not all endpoints")
    t.end()


# ---- balancing

@support.rows("DR-7")
def test_balancing():
    t = table("robin")
    for name in ("a", "b"):
        t.case("DR-8", "/", origin=reached(t, 1)[0].translate({97: 98, 98: 97}), cluster="outbound|8080||robin.test")
    found = "".join(reached(t, 40))
    check(found in ("ab" * 20, "ba" * 20), f"DR-8: ROUND_ROBIN: {found}")
    found = "".join(reached(t, 40, host="weighted.rows.test"))
    check(found.count("a") == 10 and "aa" not in found, f"DR-8: 1 to 3: {found}")
    found = "".join(reached(t, 200, host="random.rows.test"))
    check(abs(found.count("a") - 100) <= 5 * math.sqrt(50) and "aa" in found and "bb" in found, f"DR-8: RANDOM: {found}")
    t.case("DR-9", "/", 503, host="pass.rows.test", body="no healthy upstream", flags="UH", details="no_healthy_upstream")
    # least request: whoever has requests in flight is asked only when both draws fall on it
    check(set(reached(t, 20, host="least.rows.test")) == {"a", "b"}, "DR-7: not both serve")
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        held = [pool.submit(told.send, "least.rows.test", "/", headers={"x-do-a": "sleep=1.5"}) for _ in range(12)]
        time.sleep(0.2)
        n_busy = sum(r["origin"] == "a" for r in STATE["origins"][0].seen)
        found = "".join(reached(t, 120, host="least.rows.test", headers={"x-do-b": ""}))
        held = [h.result() for h in held]
    t.count(200, "-", len(held))
    check(n_busy and found.count("a") <= 30 + 5 * math.sqrt(120 * 3 / 16), f"DR-7: {found.count('a')} of 120 at the busy one")
    t.end()


MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotated(x, n):
    return ((x << n) | (x >> (64 - n))) & MASK


def xxh64(data, seed=0):
    """XXH64 as its specification says."""
    def step(acc, lane):
        return rotated((acc + lane * P2) & MASK, 31) * P1 & MASK
    at_byte = 0
    if len(data) >= 32:
        acc = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while at_byte + 32 <= len(data):
            acc = [step(a, lane) for a, lane in zip(acc, struct.unpack_from("<4Q", data, at_byte))]
            at_byte += 32
        h = sum(rotated(a, n) for a, n in zip(acc, (1, 7, 12, 18))) & MASK
        for a in acc:
            h = ((h ^ step(0, a)) * P1 + P4) & MASK
    else:
        h = (seed + P5) & MASK
    h = (h + len(data)) & MASK
    while at_byte + 8 <= len(data):
        h = (rotated(h ^ step(0, struct.unpack_from("<Q", data, at_byte)[0]), 27) * P1 + P4) & MASK
        at_byte += 8
    if at_byte + 4 <= len(data):
        h = (rotated(h ^ struct.unpack_from("<I", data, at_byte)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at_byte += 4
    for byte in data[at_byte:]:
        h = rotated(h ^ byte * P5 & MASK, 11) * P1 & MASK
    for shift, factor in ((33, P2), (29, P3)):
        h = (h ^ h >> shift) * factor & MASK
    return h ^ h >> 32


def ring_owner(key):
    """Whose point is the first at or after the key's, on the ring of four equal hosts (DR-12)."""
    ring = sorted((xxh64(f"{address}:8080_{i}".encode()), name) for address, name in NAMES.items() for i in range(256))
    h = xxh64(key.encode())
    return next((name for point, name in ring if point >= h), ring[0][1])


def test_hashing():
    check(xxh64(b"") == 0xEF46DB3751D8E999 and xxh64(b"abc") == 0x44BC2CF5AD770999, "XXH64 is not that")
    t = table("ring")
    users = [f"user-{i}" for i in range(24)]
    for user in users:
        t.case("DR-10 DR-12", "/", origin=ring_owner(user), headers={"x-user": user})
    check(len(set(reached(t, 40))) > 1, "DR-10: without the header all went to one host")
    for name, rows, place in (("maglev", "DR-13", lambda key: {"headers": {"x-user": key}}), ("query", "DR-10", lambda key: {"path": "/?x=1&key=" + key})):
        where = {user: reached(t, 1, host=name + ".rows.test", **place(user))[0] for user in users}
        check(len(set(where.values())) > 2, f"{rows}: {name} has all keys at {set(where.values())}")
        for user in users:
            t.case(rows, origin=where[user], host=name + ".rows.test", **place(user), **({"saw": {"path": place(user)["path"]}} if "path" in place(user) else {}))
    check(len(set(reached(t, 12, host="source.rows.test"))) == 1, "DR-10: one client, several hosts")
    t.end()


def test_cookies():
    t = table("cookie")
    got, _, _ = t.case("DR-11", origin=None, n_saw=1, details="via_upstream", body="", method="HEAD", answer={"content-length": "9"})
    said = got.headers["set-cookie"]
    check(re.fullmatch(r'sess="[0-9a-f]{16}"; Max-Age=60; Path=/p; HttpOnly', said), f"DR-11: {said}")
    for _ in range(4):
        t.case("DR-10 DR-11", origin=got.headers["x-origin"], headers={"cookie": said.split(";")[0]}, answer={"set-cookie": None})
    got = t.many(1, host="session.rows.test")[0][0]
    check(re.fullmatch(r'sess="[0-9a-f]{16}"; HttpOnly', got.headers["set-cookie"]), f"DR-11: {got.headers['set-cookie']}")
    found = t.many(20, host="given.rows.test")
    check(all("set-cookie" not in g.headers for g, _ in found) and len({g.headers["x-origin"] for g, _ in found}) > 1, "DR-11: without ttl a cookie, or one host")
    check(len(set(reached(t, 8, host="given.rows.test", headers={"cookie": "a=b; sess=mine"}))) == 1, "DR-10: the client's own cookie is not kept to")
    t.end()


@support.rows("DR-18")
def test_localities():
    t = table()
    check(set(reached(t, 8, host="far.rows.test")) == {"a", "b"}, "DR-17: without outlier detection localities do not matter")
    check(set(reached(t, 8, host="near.rows.test")) == {"a"}, "DR-17: with outlier detection the near one serves alone")
    t.case("DR-17", origin="a", host="near.rows.test")
    with Grew("foil_mesh_outlier_ejections_total"):
        while not t.many(1, host="spill.rows.test")[0][1][0]["origin"] == "a" or told.send("spill.rows.test", "/", headers={"x-do-a": "status=500"}).status == 200:
            pass
    time.sleep(0.1)
    STATE["origins"][0].calm()
    n = 300
    found = [told.send("spill.rows.test", "/").headers["x-origin"] for _ in range(n)]
    far = sum(name in "cd" for name in found)
    check("a" not in found and abs(far - 0.3 * n) <= 5 * math.sqrt(n * 0.21), f"DR-18: {far} of {n} went far, a had {found.count('a')}")


# ---- pools

@support.rows("DR-29")
def test_pools():
    t = table("waits")
    busy = {"x-do": "sleep=0.15"}
    found = together(4, "waits", **busy)
    check([s for s, _, _ in found] == [200] * 4, f"DR-22: {found}")
    check(len({r["peer"] for r in STATE["origins"][0].seen}) == 1, "DR-22: more than one connection")
    t.case("DR-22", origin="a")
    t.count(200, "-", 4)
    overload = {"x-envoy-overloaded": "true", "content-type": "text/plain", "content-length": "81"}
    with Grew("foil_mesh_upstream_pending_overflow_total", 4):
        for rows, name, n, n_good in (("DR-27", "pending", 4, 2), ("DR-28", "active", 4, 2)):
            found = together(n, name, x_do="", **{"x-do": "sleep=0.5"})
            check([s for s, _, _ in found] == [200] * n_good + [503] * (n - n_good), f"{rows}: {[s for s, _, _ in found]}")
            for _, headers, body in found[n_good:]:
                check(body == UC + "reset reason: overflow" and all(headers.get(k) == v for k, v in overload.items()), f"{rows}: {headers} {body}")
            line = told.LINE.match(t.log.find(f"outbound|8080||{name}.test", " 503 ")).groupdict()
            check(line["flags"] == "UO" and line["details"] == "upstream_reset_before_response_started{overflow}", f"{rows}: {line}")
            t.count(200, "-", n_good)
            t.count(503, "UO", n - n_good)
            t.case(rows, host=name + ".rows.test", origin="a")
    peers = [requests[0]["peer"] for _, requests in t.many(6, host="short-lived.rows.test")]
    check(peers[0] == peers[1] != peers[2] == peers[3] != peers[4] == peers[5], f"DR-29: {peers}")
    check(len({requests[0]["peer"] for _, requests in t.many(6, host="kept.rows.test")}) == 1, "DR-29: unset, but connections end")
    found = together(8, "zeros", **busy)
    check([s for s, _, _ in found] == [200] * 8, f"DR-31: {found}")
    t.count(200, "-", 8)
    t.case("DR-31", host="zeros.rows.test", origin="a", n_saw=2, headers={"x-do": "status=500 first=1"})
    t.end()


def test_connecting():
    t = table()
    _, line, _ = t.case("DR-23", "/", 503, host="connects.rows.test", body=UC + "reset reason: connection timeout", flags="UF",
                        details="upstream_reset_before_response_started{connection_timeout}", answer={"content-type": "text/plain"})
    check(290 <= int(line["ms"]) < 1500, f"DR-23: {line['ms']} ms")
    t.case("DR-23", "/", 503, host="refuses.rows.test", body=UC + "reset reason: remote connection failure",
           flags="UF", details="upstream_reset_before_response_started{remote_connection_failure}")
    t.end()


def test_a_limit_of_retries():
    t = table("retries")
    with Grew("foil_mesh_retry_overflow_total", exactly=False):
        found = together(4, "retries", **{"x-do": "status=503"})
    check([s for s, _, _ in found] == [503] * 4, f"DR-30: {found}")
    n = len(STATE["origins"][0].seen)
    check(5 <= n < 12, f"DR-30: {n} tries of four requests")
    lines = [m.groupdict() for text in t.log.lines() if (m := told.LINE.match(text))]
    check(any(line["flags"] == "URX" for line in lines) and any("URX" not in line["flags"] for line in lines), f"DR-30: {[line['flags'] for line in lines]}")
    for line in lines:
        t.count(503, line["flags"])
    t.case("DR-30", origin="a", n_saw=2, headers={"x-do": "status=503 first=1"})
    t.end()


def l4(port):
    s = support.connect(port=port, timeout_s=5)
    try:
        return s, s.recv(1)
    except ConnectionError:
        return s, b""


def test_a_limit_of_l4_connections():
    t = table()
    first, said = l4(9000)
    check(said == b"a", f"DR-22: {said}")
    with Grew("foil_mesh_upstream_cx_overflow_total"), Grew("istio_tcp_connections_closed_total", response_flags="UO"):
        second, said = l4(9000)
        check(said == b"", f"DR-22: {said}")
        second.close()
        line = wait_for(lambda: next((m.groupdict() for text in t.log.lines() if (m := told.L4_LINE.match(text))), None), 5, "DR-22: no line")
        check(line["flags"] == "UO" and line["cluster"] == "outbound|9000||raw1.test", f"DR-22: {line}")
    first.close()
    wait_for(lambda: (one := l4(9000)) and (one[0].close() or one[1] == b"a"), 5, "DR-22: the place does not become free")


# ---- outliers

def fails(name, n=1, status=500, **more):
    return [told.send(name + ".rows.test", "/", headers={"x-do": f"status={status}"}, **more).status for _ in range(n)]


def ejected_now(name):
    return support.Metrics().sum("envoy_cluster_outlier_detection_ejections_active", cluster_name=f"outbound|8080||{name}.test")


def test_ejection_and_return():
    t = table("single")
    gone = {"body": "no healthy upstream", "flags": "UH", "details": "no_healthy_upstream"}
    fails("single", 2)
    t.case("DR-37", origin="a")  # a good answer: the count begins again
    fails("single", 2)
    t.case("DR-37", origin="a")
    away = []
    while len(away) < 2 or (max(away[1:]) < 1.15 and len(away) < 4):  # a sweep between return and ejection takes one off the multiplier
        fails("single", 3)
        ejected = time.monotonic()
        gone_now = told.send("single.rows.test", "/")
        wait_for(lambda: told.send("single.rows.test", "/").status == 200, 6, "DR-40: does not return", every_s=0.02)
        away.append(time.monotonic() - ejected)
        check((gone_now.status, gone_now.body) == (503, "no healthy upstream"), f"DR-40: {gone_now.status} {gone_now.body}")
    check(0.55 <= away[0] <= 1.6 and max(away[1:]) >= 1.15, f"DR-40: away for {away} s")
    with Grew("foil_mesh_outlier_ejections_total"), Grew("foil_mesh_outlier_returns_total"):
        fails("single", 3)
        t.case("DR-40 DR-42", "/", 503, **gone)
        wait_for(lambda: told.send("single.rows.test", "/").status == 200, 6, "DR-40: does not return")
    wait_for(lambda: ejected_now("single") == 0, 6, "DR-45: the gauge does not say that it is back")
    # gateway errors
    fails("gateway", 4, 500)
    t.case("DR-38", origin="a", host="gateway.rows.test")
    fails("gateway", 1, 503)
    fails("gateway", 1, 500)
    fails("gateway", 1, 502)
    t.case("DR-38", origin="a", host="gateway.rows.test")
    fails("gateway", 2, 504)
    t.case("DR-38", "/", 503, host="gateway.rows.test", **gone)


@support.rows("DR-44")
def test_who_may_be_ejected():
    t = table()
    with Grew("foil_mesh_outlier_ejections_overflow_total", exactly=False), Grew("foil_mesh_outlier_ejections_total", 0):
        found = [told.send("few.rows.test", "/", headers={"x-do-a": "status=503"}).status for _ in range(16)]
    check(found.count(503) == 8, f"DR-36 DR-41: {found}")
    t.case("DR-36 DR-41", "/", 503, host="few.rows.test", method="HEAD", n_saw=1, details="via_upstream", body="", headers={"x-do": "status=503"})
    with Grew("foil_mesh_outlier_ejections_total"):  # one of three, not two
        found = [told.send("third.rows.test", "/", headers={"x-do": "status=500"}).status for _ in range(6)]
    check(found == [500] * 6, f"DR-41: {found}")
    check(len({told.send("third.rows.test", "/").headers["x-origin"] for _ in range(8)}) == 2, "DR-41: not two of three are left")
    with Grew("foil_mesh_lb_panic_picks_total", exactly=False), Grew("foil_mesh_outlier_ejections_total", 2):
        fails("panic", 6)
        check({told.send("panic.rows.test", "/").headers.get("x-origin") for _ in range(8)} == {"a", "b"}, "DR-42: no panic")
    # connections that fail count, too
    with Grew("foil_mesh_outlier_ejections_total"):
        found = [told.send("local.rows.test", "/").status for _ in range(12)]
    check(sorted(found) == [200] * 10 + [503] * 2, f"DR-37: {found}")
    t.case("DR-37", origin="a", host="local.rows.test")
    with Grew("foil_mesh_outlier_ejections_total"):
        found = []
        for _ in range(8):
            s, said = l4(9001)
            s.close()
            found.append(said)
    check(sorted(found) in ([b""] + [b"a"] * 7, [b"a"] * 8), f"DR-44: {found}")


def test_ejection_outlives_other_changes():
    table()
    while told.send("lasting.rows.test", "/", headers={"x-do-a": "status=500"}).status != 500:
        pass
    t = table("lasting")
    before = support.snapshot()["version"]
    support.replace(os.path.join(STATE["folder"], "other.yaml"), service_entry("other", A))
    support.wait_applied(before)
    for _ in range(6):
        t.case("DR-45", origin="b")
    wait_for(lambda: ejected_now("lasting") == 1, 6, lambda: f"DR-45: the gauge says that {ejected_now('lasting')} are ejected")
    t.end()


# ---- what is refused

BAD = (
    ("DR-13", "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 250}}}", "tableSize"),
    ("DR-31", "connectionPool: {tcp: {maxConnections: -1}}", "maxConnections"),
    ("DR-36", "outlierDetection: {interval: 0s}", "interval"),
    ("DR-55", "proxyProtocol: {version: V1}, tunnel: {targetHost: a.test, targetPort: 80}", "tunnel"),
    ("DR-55", "connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}", "useClientProtocol"),
    ("DR-55", "loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: {r1: 50}}]}}", "distribute"),
    ("DR-55", "outlierDetection: {outlierDetectionHttpErrorCodes: [600]}", "outlierDetectionHttpErrorCodes"),
    ("DR-55", RR + ", portLevelSettings: [{port: {number: 80}, " + RR + "}, {port: {number: 80}, " + RR + "}]", "portLevelSettings"))


def test_refusals():
    set_up()
    for rows, policy, word in BAD:
        text = destination_rule("bad", "one.w.test", policy) if policy else destination_rule("bad", "one.w.test", "", more="trafficPolicy: {}")
        status, said = validate(CONFIG + service_entry("one.w", A) + text)
        check(status != 0 and re.search(r"all\.yaml:\d+:\d+", said) and word.lower() in said.lower(), f"{rows}: {policy}: {status} {said}")
    status, said = validate(CONFIG + service_entry("one.w", A) + destination_rule("bad", "one.w.test", "", "{name: x, labels: {v: a}}, {name: x, labels: {v: b}}"))
    check(status != 0 and "subsets" in said, f"DR-55: {status} {said}")
    status, said = validate(CONFIG + RULES)
    check(status == 0, said)


def test_zz_down():
    for one in STATE.get("origins", []) + STATE.get("echo", []):
        one.kill()
    lab.down(keep_quiet=True)
