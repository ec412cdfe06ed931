"""The largest body that a route takes (hydrofoil.io/max-request-body-bytes): told by content-length, in chunks, over HTTP/2, and to gRPC."""
import subprocess

import h2peers
import support
from foilrun import lab
from resources import own_lab, service_entry, virtual_service
from support import GATEWAY, check
from told import Grew

HOST, ADDRESS, LIMIT = "limited.test", "198.19.0.72", 10000
CONFIG = (support.gateway() + support.mesh_config() + service_entry("limited", ADDRESS)
          + virtual_service("limited", f"[{HOST}]", [f"route: [{{destination: {{host: {HOST}, port: {{number: 8080}}}}}}]"]).replace(
              "name: limited,", f'name: limited, annotations: {{hydrofoil.io/max-request-body-bytes: "{LIMIT}"}},'))


def curl(n_bytes, *words):
    """Status and body."""
    done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "curl", "-s", "--max-time", "10", "-H", f"Host: {HOST}", "-H", "Expect:", "-w",
                           "\n%{http_code}", "--data-binary", "@-", *words, f"http://{GATEWAY}/"], input=b"x" * n_bytes, capture_output=True, timeout=20)
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), body


def http2(n_bytes, *headers):
    client = h2peers.Client(HOST)
    answer = client.ask("/", "POST", headers=headers, body=b"x" * n_bytes)
    client.close()
    return answer["status"], answer["body"].decode(), answer["headers"]


def test_a_body_beyond_the_limit_is_413_however_it_comes():
    ways = {
        "content-length": curl, "chunks": lambda n: curl(n, "-H", "Transfer-Encoding: chunked"),
        "HTTP/2": http2, "HTTP/2 with content-length": lambda n: http2(n, ("content-length", str(n))),
    }
    with own_lab("limit", CONFIG):
        origin, log = support.Origin(ADDRESS, "limited"), support.Log()
        for name, send in ways.items():
            n_seen = len(origin.seen)
            status = send(LIMIT)[0]
            check(status == 200 and len(origin.seen) == n_seen + 1, f"{name}: {status} for what fits")
            with Grew("foil_mesh_replies_total", reason="body_too_large"):
                status, body, *_ = send(LIMIT + 1)
            check((status, body) == (413, "Payload Too Large") and len(origin.seen) == n_seen + 1, f"{name}: {status} {body}")
        check(" 413 " in log.find("request_payload_too_large"), "no line in the log")
        status, _, headers = http2(LIMIT + 1, ("content-type", "application/grpc"))
        check((status, headers.get("grpc-status"), headers.get("grpc-message")) == (200, "2", "Payload Too Large"), f"gRPC: {status} {headers}")
        check(support.ask(HOST)[0] == 200, "no body at all")
        origin.kill()
