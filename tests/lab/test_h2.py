"""HTTP/2 and gRPC between real peers: curl, nghttp2, python's h2, h2spec where it is installed; and the four bridges with HTTP/1.1."""
import os
import re
import shutil
import socket
import threading
import time

import h2peers
import shared
import support
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame
from support import GATEWAY, Counted, Log, body_of, check, run_in, sha256_of

WITH_LAB = True
FILES = "files.example.com"
N_BYTES = 24 << 20
ORIGINS = {}
CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: h2, namespace: bookinfo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8000, name: http-h2, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: h2, namespace: bookinfo}
spec:
  hosts: [h2.bookinfo]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 7070, name: grpc, protocol: GRPC}
  endpoints:
  - {address: 198.19.0.16}
  - {address: 198.19.0.17}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: both, namespace: bookinfo}
spec: {hosts: [both.bookinfo], resolution: STATIC, ports: [{number: 7071, name: http, protocol: HTTP}], endpoints: [{address: 198.19.0.18}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: both, namespace: bookinfo}
spec: {host: both.bookinfo, trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: h2, namespace: bookinfo}
spec:
  hosts: ["*"]
  gateways: [h2]
  http:
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 200, body: {string: "hydrofoil is here\\n"}}
  - match: [{uri: {prefix: /both}}]
    route: [{destination: {host: both.bookinfo}}]
  - match: [{uri: {prefix: /retried}}]
    retries: {attempts: 2, retryOn: "unavailable,refused-stream"}
    route: [{destination: {host: h2.bookinfo, port: {number: 7070}}}]
  - match: [{uri: {prefix: /h1}}]
    rewrite: {uri: /}
    route: [{destination: {host: reviews, port: {number: 8080}}}]
  - match: [{headers: {content-type: {prefix: application/grpc}}}]
    route: [{destination: {host: h2.bookinfo, port: {number: 7070}}}]
  - match: [{uri: {prefix: /bytes}}, {uri: {prefix: /echo}}, {uri: {prefix: /seen}}]
    route: [{destination: {host: h2.bookinfo, port: {number: 7070}}}]
  - route: [{destination: {host: reviews, port: {number: 8080}}}]
"""


def origins():
    """Two HTTP/2 origins, and their routes, from the first test that asks on."""
    if not ORIGINS:
        before = support.snapshot().get("version")
        support.replace(shared.config_file("95-h2.yaml"), CONFIG)
        support.wait_applied(before)
        ORIGINS.update({n: h2peers.Origin(a, n) for n, a in (("a", "198.19.0.16"), ("b", "198.19.0.17"))})
    for o in ORIGINS.values():
        o.calm()
    return ORIGINS


def seen():
    return [r for o in ORIGINS.values() for r in o.seen]


def test_a_download_over_h2_has_the_right_sha256():
    for port, host in ((80, FILES), (8000, "h2.example.com")):
        origins()
        done = run_in("client", "bash", "-c", f"curl -sS --max-time 100 --http2-prior-knowledge -H 'Host: {host}' "
                      f"http://{GATEWAY}:{port}/bytes/{N_BYTES} | sha256sum", timeout_s=120)
        check(done.stdout.split()[0] == sha256_of(body_of(N_BYTES)), f"{port}: {done.stdout} {done.stderr}")


def test_an_upload_over_h2_has_the_right_sha256():
    origins()
    client = h2peers.Client(FILES)
    answer = client.ask("/put", "PUT", body=b"".join(body_of(N_BYTES)))
    check(sha256_of(body_of(N_BYTES)).encode() in answer["body"], f"{answer}"[:300])
    client.close()
    client = h2peers.Client("h2.example.com", port=8000)
    answer = client.ask("/seen", "PUT", body=b"".join(body_of(N_BYTES)))
    check(sha256_of(body_of(N_BYTES)).encode() in answer["body"], f"{answer}"[:300])
    client.close()


def test_h2_client_and_h1_origin():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    answer = client.ask("/h1", headers=[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-a", "1")])
    check(answer["status"] == 200 and answer["trailers"] is None, str(answer))
    request = (shared.ORIGINS["v1"].seen + shared.ORIGINS["v2"].seen)[-1]
    check(request["headers"].get("host") == "x.example.com" and request["headers"].get("cookie") == "a=1; b=2", str(request))
    check(request["headers"].get("x-a") == "1" and "transfer-encoding" not in request["headers"], str(request))
    answer = client.ask("/h1", "POST", body=b"x" * 100000, trailers=[("x-t", "1")])
    check(answer["status"] == 200, str(answer))
    answer = client.ask("/h1", "HEAD")
    check(answer["status"] == 200 and not answer["body"] and int(answer["headers"]["content-length"]) > 0, str(answer))
    client.close()


def test_h1_client_and_h2_origin():
    origins()
    status, headers, body = support.ask("x.example.com", "/seen", "POST", headers={"X-B": "2", "Connection": "x-hop", "X-Hop": "1"}, body=b"y" * 70000,
                                        port=8000)
    check(status == 200 and headers.get("transfer-encoding") == "chunked" and "x-trailer" not in headers, f"{status} {headers}")
    request = dict(seen()[-1]["headers"])
    check(request[":authority"] == "x.example.com" and request["x-b"] == "2" and "x-hop" not in request and "host" not in request, str(request))
    check(request["content-length"] == "70000" and seen()[-1]["n"] == 70000, str(request))
    status, headers, body = support.ask("x.example.com", "/seen", "HEAD", port=8000)
    check(status == 200 and body == b"", f"{status} {headers}")


def test_h2_client_and_h2_origin_keep_trailers():
    origins()
    log = Log()
    client = h2peers.Client("x.example.com", port=8000)
    answer = client.ask("/seen/t", "POST", body=b"z" * 30000, trailers=[("x-up", "1")])
    check(answer["status"] == 200 and answer["trailers"] == {"x-trailer": "t"}, str(answer))
    check(("x-up", "1") in seen()[-1]["trailers"], str(seen()[-1]))
    client.close()
    log.find('"POST /seen/t HTTP/2" 200')


class Both(h2peers.Origin):
    """Speaks HTTP/2 with who begins so, and HTTP/1.1 with others, whose requests are v1's."""

    def accept_loop(self):
        while True:
            try:
                s, peer = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.sniff, args=(s, peer), daemon=True).start()

    def sniff(self, s, peer):
        if s.recv(4, socket.MSG_PEEK) == b"PRI ":
            c = h2peers.OriginConnection(self, s)
            self.connections.append(c)
            c.run()
        else:
            support.handler(shared.ORIGINS["v1"])(s, peer, None)


def test_the_clients_protocol_is_the_origins_where_a_rule_says_so():
    origins()
    both, log = Both("198.19.0.18", "both", 7071), Log()
    client = h2peers.Client("x.example.com", port=8000)
    for i in range(3):
        answer = client.ask(f"/both/two/{i}")
        check(answer["status"] == 200 and answer["trailers"] == {"x-trailer": "t"}, f"{answer}")
        status, headers, _ = support.ask("x.example.com", f"/both/one/{i}", port=8000)
        check(status == 200 and headers.get("x-origin") == "v1", f"{status} {headers}")
    client.close()
    both.kill()
    check([r["path"] for r in shared.ORIGINS["v1"].seen] == [f"/both/one/{i}" for i in range(3)], f"{shared.ORIGINS['v1'].seen}")
    check(len(both.connections) == 1 and [dict(r["headers"])[":path"] for r in both.seen] == [f"/both/two/{i}" for i in range(3)], f"{both.seen}")
    log.find('"GET /both/two/2 HTTP/2" 200', "outbound|7071||both.bookinfo")


def test_streams_share_upstream_connections_and_each_is_balanced():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    n_before = {n: len(o.connections) for n, o in ORIGINS.items()}
    streams = [client.send(f"/seen/{i}") for i in range(80)]
    client.wait(*streams)
    check(all(client.answers[s]["status"] == 200 for s in streams), "not all were answered")
    for name, o in ORIGINS.items():
        check(len(o.seen) >= 10, f"{name} got {len(o.seen)} of 80")
        check(len(o.connections) - n_before[name] <= 2, f"{name} got {len(o.connections)} connections")
    client.close()


def test_grpc_unary_and_both_ways():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    grpc = [("content-type", "application/grpc"), ("te", "trailers")]
    answer = client.ask("/pkg.Svc/Call", "POST", headers=grpc, body=b"\0\0\0\0\2hi")
    check(answer["trailers"].get("grpc-status") == "0", str(answer))
    check(("te", "trailers") in seen()[-1]["headers"], str(seen()[-1]))
    with Counted("istio_request_messages_total", request_protocol="grpc") as n_asked, Counted("istio_response_messages_total", request_protocol="grpc") as n_told:
        stream = client.send("/echo", "POST", headers=grpc, end=False)
        for i in range(5):
            client.data(stream, b"\0\0\0\0\1" + bytes([65 + i]))
            while len(client.answers[stream]["body"]) < 6 * (i + 1):
                check(client.turn(), "closed")
        client.data(stream, b"", end=True)
        answer = client.wait(stream)
        n_asked.grew(5)
        n_told.grew(5)
    check(answer["body"][5::6] == b"ABCDE" and answer["trailers"].get("grpc-status") == "0", str(answer))
    client.close()


def test_grpc_status_is_counted_and_retried_in_headers_only():
    origins()
    grpc = [("content-type", "application/grpc"), ("te", "trailers")]
    for o in ORIGINS.values():
        o.grpc_status, o.trailers_only = 14, True
    client = h2peers.Client("x.example.com", port=8000)
    with Counted("istio_requests_total", grpc_response_status=14, request_protocol="grpc") as n:
        answer = client.ask("/retried", "POST", headers=grpc, body=b"\0\0\0\0\0")
        check(answer["headers"].get("grpc-status") == "14" and len(seen()) == 3, f"{answer} {len(seen())}")
        n.grew(1)
        for o in ORIGINS.values():
            o.calm()
            o.grpc_status = 14
        answer = client.ask("/retried", "POST", headers=grpc, body=b"\0\0\0\0\0")
        check(answer["trailers"].get("grpc-status") == "14" and len(seen()) == 1, f"{answer} {len(seen())}")
        n.grew(2)
    client.close()


def test_a_grpc_deadline_is_kept_and_told():
    for o in origins().values():
        o.delay_s = 1
    client = h2peers.Client("x.example.com", port=8000)
    answer = client.ask("/pkg.Svc/Slow", "POST", headers=[("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "200m")],
                        body=b"\0\0\0\0\0")
    check(answer["status"] == 200 and answer["headers"].get("grpc-status") == "14", str(answer))  # as Envoy
    told = dict(seen()[-1]["headers"])["grpc-timeout"]
    check(told.endswith("m") and 1 <= int(told[:-1]) <= 200, told)
    client.close()


def test_local_replies_to_grpc_are_in_headers():
    origins()
    client = h2peers.Client("nowhere.invalid", port=80)
    answer = client.ask("/pkg.Svc/Call", "POST", headers=[("content-type", "application/grpc"), ("te", "trailers")], body=b"\0\0\0\0\0")
    check(answer["status"] == 200 and answer["headers"].get("grpc-status") == "12" and answer["trailers"] is None, str(answer))
    check(client.ask("/plain")["status"] == 404, "not gRPC")
    client.close()


def test_a_refused_stream_is_tried_again():
    origins()
    for o in ORIGINS.values():
        o.refuse_next = 1
    client = h2peers.Client("x.example.com", port=8000)
    answer = client.ask("/retried")
    check(answer["status"] == 200 and len(seen()) >= 2, f"{answer} {len(seen())}")
    client.close()


def test_who_reset_a_stream_is_in_the_log():
    origins()
    for o in ORIGINS.values():
        o.refuse_next, o.refuse_code = 1, 2
    log, client = Log(), h2peers.Client("x.example.com", port=8000)
    answer = client.ask("/seen/reset")
    check(answer["status"] == 503 and answer["body"].endswith(b"reset reason: remote reset"), f"{answer}")
    log.find("/seen/reset", " 503 UR upstream_reset_before_response_started{remote_reset} ")
    for o in ORIGINS.values():
        o.calm()
        o.delay_s = 0.5
    stream = client.send("/seen/left")
    time.sleep(0.2)
    client.h2.reset_stream(stream)
    h2peers.pump(client.h2, client.sock)
    log.find("/seen/left", " 0 DR http2.remote_reset ")
    client.close()


def test_goaway_of_an_origin_costs_no_request():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    for i in range(20):
        for o in ORIGINS.values():
            o.goaway_next = i % 4 == 0
        answer = client.ask(f"/seen/{i}")
        check(answer["status"] == 200, f"{i}: {answer}")
    client.close()


def test_a_stream_that_is_not_read_does_not_hold_up_others():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    client.h2.increment_flow_control_window(64 << 20)
    held = [client.send(f"/bytes/{8 << 20}") for _ in range(10)]
    client.held.update(held)
    for i in range(20):
        check(client.ask("/direct")["status"] == 200, "a small answer")
        check(client.ask("/seen/x")["status"] == 200, "a small answer of an origin")
    check(all(len(client.answers[s]["body"]) <= 65535 for s in held), "more than the window came")
    client.close()


def test_rapid_resets_end_the_connection():
    origins()
    client = h2peers.Client("x.example.com", port=8000)
    try:
        for _ in range(400):
            stream = client.send("/seen/r")
            client.h2.reset_stream(stream)
            h2peers.pump(client.h2, client.sock)
        while client.turn():
            pass
    except OSError:
        pass
    check(client.goaway and client.goaway.error_code == 11, f"GOAWAY: {client.goaway}")
    client.close()


def test_load_with_h2load():
    if not shutil.which("h2load"):
        raise support.Skip("h2load (nghttp2-client) is not installed")
    origins()
    with shared.NginxInstead("v1", "v2"):
        for path in ("/direct", "/h1"):
            done = run_in("client", "h2load", "-n", "20000", "-c", "8", "-m", "20", f"http://{GATEWAY}:8000{path}")
            check("20000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout)
            print("# " + re.search(r"finished in .*", done.stdout).group(0))
    done = run_in("client", "nghttp", "-nv", f"http://{GATEWAY}:8000/direct")
    check(":status: 200" in done.stdout, done.stdout)


def test_h2spec():
    program = os.environ.get("FOIL_H2SPEC") or shutil.which("h2spec")
    if not program:
        raise support.Skip("h2spec is not installed; FOIL_H2SPEC names it")
    origins()
    done = run_in("client", program, "-h", GATEWAY, "-p", "8000", "-o", "3", "--strict", timeout_s=300)
    check(" 0 failed" in done.stdout, done.stdout.partition("Failures:")[2])
    check(" 0 skipped" in done.stdout, done.stdout[-200:])


def test_drain_says_goaway_twice():
    """The listener that a client is connected to goes: what it has is served, then the connection closes."""
    origins()
    client = h2peers.Raw(port=8000)
    client.request(1, "/echo", "x.example.com", "POST", end=False)
    client.send(DataFrame(1, b"one"))
    client.until(DataFrame, lambda f: f.data == b"one")
    before = support.snapshot().get("version")
    os.unlink(shared.config_file("95-h2.yaml"))
    support.wait_applied(before)
    check(client.until(GoAwayFrame).last_stream_id == (1 << 31) - 1, "the first GOAWAY names a stream")
    ping = client.until(PingFrame)
    client.send(PingFrame(0, ping.opaque_data, flags=["ACK"]))
    check(client.until(GoAwayFrame).last_stream_id == 1, "the second GOAWAY does not name the last stream")
    client.send(DataFrame(1, b"two", flags=["END_STREAM"]))
    client.until(DataFrame, lambda f: f.data == b"two")
    client.until(HeadersFrame, lambda f: "END_STREAM" in f.flags)
    check(client.frame() is None, "the connection stays open")
    client.close()
    for o in ORIGINS.values():
        o.kill()
    ORIGINS.clear()
