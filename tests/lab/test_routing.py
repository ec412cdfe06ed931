"""Which origin a request reaches and what is done to it on the way: conf/examples/bookinfo-like/20-reviews.yaml, through curl."""
import math

import shared
from support import GATEWAY, GATEWAY6, Client, Counted, Log, Metrics, ask, check, connect, curl

WITH_LAB = True
REVIEWS = "reviews.example.com"


def test_curl_gets_an_answer_of_the_origin():
    done = curl("-i", "-H", f"Host: {REVIEWS}", f"http://{GATEWAY}/hello?x=1")
    check(done.returncode == 0, done.stderr)
    check(done.stdout.startswith("HTTP/1.1 200"), done.stdout)
    check("/hello?x=1" in done.stdout, done.stdout)
    check("\nserver: " in done.stdout.lower(), "no server header: " + done.stdout)


def test_ten_thousand_requests_split_90_to_10_within_five_sigma():
    n, n_v2 = 10000, 0
    client = Client(REVIEWS)
    with Counted("istio_requests_total", response_code=200) as counted:
        with shared.NginxInstead("v1", "v2"):
            for _ in range(n):
                status, _, body = client.ask("/")
                check(status == 200, f"{status} {body}")
                n_v2 += body.startswith(b"v2")
        counted.grew(n)
    client.close()
    sigma = math.sqrt(n * 0.1 * 0.9)
    check(abs(n_v2 - n * 0.1) <= 5 * sigma, f"{n_v2} of {n} reached v2, 5 sigma is {5 * sigma:.0f}")


def test_header_match_goes_to_v2_always():
    client = Client(REVIEWS)
    for _ in range(100):
        _, headers, _ = client.ask("/", headers={"end-user": "jason"})
        check(headers.get("x-origin") == "v2", str(headers))
    client.close()
    log = Log()
    ask(REVIEWS, "/only-jason", headers={"end-user": "jason"})
    log.find("/only-jason", " 200 ", "198.19.0.12:8080")


def test_header_match_is_exact():
    origins = {ask(REVIEWS, "/", headers={"end-user": "jason2"})[1].get("x-origin") for _ in range(40)}
    check("v1" in origins, f"jason2 reached {origins} only")


def test_uri_exact_direct_response():
    log = Log()
    status, _, body = ask(REVIEWS, "/healthz")
    check((status, body) == (200, b"hydrofoil is here\n"), f"{status} {body}")
    log.find("/healthz", " 200 ")
    check(not shared.ORIGINS["v1"].seen, "the origin was asked")


def test_uri_prefix_rewrites():
    status, _, body = ask(REVIEWS, "/api/v1/books?page=2")
    check(status == 200 and body.startswith(b"v1 /books?page=2 "), f"{status} {body}")
    seen = shared.ORIGINS["v1"].seen[-1]["headers"]
    check(seen.get("x-envoy-original-path") == "/api/v1/books?page=2", str(seen))


def test_uri_regex_matches_the_whole_path_only():
    status, headers, _ = ask(REVIEWS, "/reviews/4711")
    check(status == 200 and headers.get("x-served-by") == "hydrofoil", f"{status} {headers}")
    check(shared.ORIGINS["v1"].seen[-1]["headers"].get("x-route") == "by-number", str(shared.ORIGINS["v1"].seen[-1]))
    _, headers, _ = ask(REVIEWS, "/reviews/4711/more")
    check("x-served-by" not in headers, str(headers))


def test_response_header_is_removed():
    shared.ORIGINS["v1"].headers = {"x-origin-secret": "s"}
    _, headers, _ = ask(REVIEWS, "/reviews/1")
    check("x-origin-secret" not in headers, str(headers))


def test_redirect():
    log = Log()
    status, headers, _ = ask(REVIEWS, "/old/page")
    check(status == 301 and headers.get("location") == "http://reviews.example.com/new", f"{status} {headers}")
    log.find("/old/page", " 301 ")


def test_timeout_is_504_ut():
    shared.ORIGINS["v1"].delay_s = 2
    log = Log()
    with Counted("istio_requests_total", response_code=504, response_flags="UT") as counted:
        status, _, body = ask(REVIEWS, "/slow/one")
        check(status == 504 and body == b"upstream request timeout", f"{status} {body}")
        log.find("/slow/one", " 504 ", " UT ")
        counted.grew(1)


def test_unknown_host_is_404_nr():
    log = Log()
    with Counted("istio_requests_total", response_code=404, response_flags="NR") as counted:
        status, _, _ = ask("nobody.example.com", "/lost")
        check(status == 404, str(status))
        log.find("/lost", " 404 ", " NR ")
        counted.grew(1)


def test_forwarding_headers():
    ask(REVIEWS, "/reviews/1")
    seen = shared.ORIGINS["v1"].seen[-1]["headers"]
    check(len(seen.get("x-request-id", "")) == 36, str(seen))
    check(seen.get("x-forwarded-for") == "198.18.0.2", str(seen))
    check(seen.get("x-forwarded-proto") == "http", str(seen))
    check(seen.get("host") == REVIEWS, str(seen))


def test_service_address_is_served():
    status, _, body = ask("reviews.bookinfo.svc.cluster.local", "/mesh", address="198.18.10.10", port=8080)
    check(status == 200, f"{status} {body}")


def test_ipv6_client():
    status, _, body = ask(REVIEWS, "/six", address=GATEWAY6)
    check(status == 200, f"{status} {body}")


def test_methods_bodies_and_keep_alive():
    client = Client(REVIEWS)
    for method, body in (("POST", b"x" * 100000), ("PUT", b""), ("DELETE", None), ("HEAD", None), ("GET", None)):
        status, _, data = client.ask("/m", method=method, body=body)
        check(status == 200, f"{method}: {status}")
        check((data == b"") == (method == "HEAD"), f"{method}: {data}")
    client.close()


def test_pipelined_requests_are_answered_in_order():
    s = connect()
    s.sendall(b"".join(b"GET /p%d HTTP/1.1\r\nHost: reviews.example.com\r\nend-user: jason\r\n\r\n" % i for i in range(20)))
    data = b""
    while data.count(b"v2 /p") < 20:
        more = s.recv(65536)
        check(more, f"closed after {data.count(b'HTTP/1.1 200')} answers")
        data += more
    at = [data.index(b"v2 /p%d " % i) for i in range(20)]
    check(at == sorted(at), "out of order")
    s.close()


def test_malformed_requests_are_refused_and_closed():
    for text, status in ((b"GET / HTTP/1.1\r\n\r\n", b"400"), (b"GET /\r\n\r\n", b"400"),
                         (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
                         (b"GET / HTTP/1.1\r\nHost: reviews.example.com\r\nx: " + b"y" * 100000 + b"\r\n\r\n", b"431")):
        s = connect()
        s.sendall(text)
        data = b""
        try:
            while more := s.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        s.close()
        check(data.startswith(b"HTTP/1.1 " + status), f"{text[:60]}: {data[:80]}")


def test_tcp_is_passed_through_with_half_close():
    s = connect(port=9000)
    s.sendall(b"over tcp" * 10000)
    s.shutdown(1)
    data = b""
    while more := s.recv(65536):
        data += more
    s.close()
    check(data == b"over tcp" * 10000, f"{len(data)} bytes came back")


def test_metrics_at_both_ports_and_ready():
    from foilrun import lab
    check(Metrics().sum("istio_requests_total") > 0, "no istio_requests_total")
    check(Metrics(path="/metrics").sum("istio_requests_total") > 0, "no istio_requests_total at /metrics")
    check(lab.get("/healthz/ready", 15021)[0] == 200, "15021 is not ready")
    labels = next(have for name, have, _ in Metrics().samples if name == "istio_requests_total")
    for label in ("reporter", "destination_service", "response_code", "response_flags", "request_protocol", "connection_security_policy"):
        check(label in labels, f"istio_requests_total has no label {label}: {labels}")


def test_ping_is_answered():
    from support import run_in
    done = run_in("client", "ping", "-c", "3", "-i", "0.2", "-W", "2", GATEWAY)
    check(" 0% packet loss" in done.stdout, done.stdout)
    done = run_in("client", "ping", "-6", "-c", "3", "-i", "0.2", "-W", "2", GATEWAY6)
    check(" 0% packet loss" in done.stdout, done.stdout)
