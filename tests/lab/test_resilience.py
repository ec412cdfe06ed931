"""Retries, the circuit breaker and outlier detection, each seen by the client, in the access log and in the metrics."""
import concurrent.futures
import time

import shared
from support import Client, Counted, Log, Metrics, ask, check, wait_for

WITH_LAB = True
RATINGS, DETAILS, PAYMENTS = "ratings.example.com", "details.example.com", "payments.example.com"


def test_killed_backend_is_not_noticed_by_the_client():
    dead = shared.ORIGINS["ratings-a"]
    client, log = Client(RATINGS), Log()
    client.ask("/before")
    dead.kill()
    try:
        for i in range(50):
            status, headers, _ = client.ask(f"/r{i}")
            check(status == 200 and headers.get("x-origin") == "ratings-b", f"request {i}: {status} {headers}")
    finally:
        dead.start()
        client.close()
    log.find("/r49", " 200 ", "198.19.0.15:8080")


def test_killed_backend_under_wrk_gives_no_error():
    from support import wrk, wrk_result
    with shared.NginxInstead("ratings-b"):
        load = wrk(RATINGS, seconds=4, connections=8)
        time.sleep(1)
        shared.ORIGINS["ratings-a"].kill()
        try:
            result = wrk_result(load)
        finally:
            shared.ORIGINS["ratings-a"].start()
    check(result["bad"] == 0 and result["socket_errors"] == 0, result["text"])


def test_5xx_is_tried_again_at_the_other_endpoint():
    shared.ORIGINS["ratings-a"].status = 500
    client = Client(RATINGS)
    for i in range(20):
        status, _, _ = client.ask(f"/again{i}")
        check(status == 200, f"request {i}: {status}")
    client.close()
    tries = [s["headers"].get("x-envoy-attempt-count") for s in shared.ORIGINS["ratings-b"].seen]
    check("2" in tries, f"attempt counts seen: {tries}")


def test_retries_end_and_say_urx():
    shared.ORIGINS["ratings-a"].status = shared.ORIGINS["ratings-b"].status = 500
    log = Log()
    with Counted("istio_requests_total", response_code=500, response_flags="URX") as counted:
        status, _, _ = ask(RATINGS, "/hopeless")
        check(status == 500, str(status))
        log.find("/hopeless", " 500 ", "URX")
        counted.grew(1)
    n = sum(s["path"] == "/hopeless" for o in ("ratings-a", "ratings-b") for s in shared.ORIGINS[o].seen)
    check(n == 4, f"{n} tries; the first and three more")


def test_dead_upstream_is_503_uf():
    for name in ("payments-a", "payments-b"):
        shared.ORIGINS[name].kill()
    log = Log()
    try:
        status, _, body = ask(PAYMENTS, "/refused")
        check(status == 503, f"{status} {body}")
        log.find("/refused", " 503 ", "UF")
    finally:
        for name in ("payments-a", "payments-b"):
            shared.ORIGINS[name].start()
    wait_for(lambda: ask(PAYMENTS, "/after")[0] == 200, 15, "payments does not come back")


def test_open_circuit_is_503_uo_with_x_envoy_overloaded():
    shared.ORIGINS["details"].delay_s = 1
    log = Log()
    with Counted("istio_requests_total", response_code=503, response_flags="UO") as counted:
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda i: ask(DETAILS, f"/d{i}"), range(10)))
        refused = [h for status, h, _ in answers if status == 503]
        check(sum(status == 200 for status, _, _ in answers) >= 2, str([a[0] for a in answers]))
        check(refused, "nothing was refused: " + str([a[0] for a in answers]))
        check(all(h.get("x-envoy-overloaded") == "true" for h in refused), str(refused[0]))
        log.find(" 503 ", " UO ", "upstream_reset_before_response_started{overflow}")
        counted.grew(len(refused))
    shared.ORIGINS["details"].delay_s = 0
    wait_for(lambda: ask(DETAILS, "/closed-again")[0] == 200, 5, "the circuit does not close")


def test_ejection_after_five_errors_and_return():
    a, b = shared.ORIGINS["payments-a"], shared.ORIGINS["payments-b"]
    wait_for(lambda: {ask(PAYMENTS)[1].get("x-origin") for _ in range(6)} == {"payments-a", "payments-b"}, 20, "both endpoints do not serve")
    a.status = 503
    client = Client(PAYMENTS)
    n_bad = 0
    for _ in range(40):
        n_bad += client.ask("/eject")[0] == 503
    check(n_bad == 5, f"{n_bad} errors reached the client; the endpoint goes after five")
    check(client.ask("/x")[1].get("x-origin") == "payments-b", "still at the ejected endpoint")
    check(any(value > 0 for name, _, value in Metrics().samples if "ejection" in name), "no metric says that something was ejected")
    a.status = 200
    wait_for(lambda: client.ask("/return")[1].get("x-origin") == "payments-a", 12, "the endpoint does not return", every_s=0.2)
    client.close()
    check(b.seen, "the other endpoint was never asked")


def test_all_ejected_is_503_uh():
    for name in ("payments-a", "payments-b"):
        shared.ORIGINS[name].status = 503
    client, log = Client(PAYMENTS), Log()
    for _ in range(12):
        client.ask("/all")
    status, _, body = client.ask("/none-left")
    client.close()
    check(status == 503 and body == b"no healthy upstream", f"{status} {body}")
    log.find("/none-left", " 503 ", " UH ")
    shared.calm()
    wait_for(lambda: ask(PAYMENTS, "/back")[0] == 200, 20, "payments does not come back", every_s=0.3)


def test_upstream_that_closes_without_an_answer_is_503_uc():
    shared.ORIGINS["details"].close_without_answer = True
    log = Log()
    status, _, _ = ask(DETAILS, "/cut")
    check(status == 503, str(status))
    log.find("/cut", " 503 ", "UC")
