"""./foil demo: one lab, a few scenes. Each scene says what the configuration asks for, does it with real clients and origins, and shows
what came: to the client, in the access log, in the metrics. A scene whose outcome is not what it promises makes the demo fail."""
import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time

from foilrun import build, lab, ui

sys.path.insert(0, os.path.join(ui.ROOT, "tests", "lab"))
import support  # noqa: E402  (the origins and clients of the lab tests)

REVIEWS, RATINGS, DETAILS, PAYMENTS = "reviews.example.com", "ratings.example.com", "details.example.com", "payments.example.com"
LIVE_EVERY_S = 2
PICTURE = """
    foil-client                    foil-mesh                       foil-backends
  +--------------+   veth   +----------------------+   veth   +----------------------+
  |  curl, wrk   |  packets |      hydrofoil       |  packets |    nginx, python     |
  |  198.18.0.2  |--------->|  TCP, HTTP, routing  |--------->|  198.19.0.10 .. .20  |
  |              |<---------|  in user space       |<---------|                      |
  +--------------+          +----------------------+          +----------------------+
    Linux's TCP               our TCP at 198.18.0.1, where         Linux's TCP
                              the kernel has no address
"""


class Unexpected(ui.Failed):
    pass


def expect(condition, text):
    if not condition:
        raise Unexpected(f"the demo expected something else here: {text}; logs: .foil/logs/lab-*.log")


def scene(number, title, story, where=None):
    ui.say(f"\n{number}. {title}\n{'-' * (len(title) + len(str(number)) + 2)}")
    for line in story.strip().splitlines():
        ui.say("   " + line.strip())
    if where:
        ui.say(f"   config: {where}")


def shown(line):
    ui.say("   > " + line)


def bar(n, of, width=40):
    return "#" * round(width * n / of) if of else ""


def log_line(log, *words):
    ui.say("   access log: " + log.find(*words))


class Stage:
    """The lab with its origins: nginx for the two versions of reviews, python for those that the scenes break."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="foil-demo-")
        self.config = shutil.copytree(lab.DEFAULT_CONFIG, self.folder + "/config")
        self.origins, self.nginx = {}, None

    def __enter__(self):
        return self

    def open(self):
        ui.say("\nthe lab: three network namespaces, with no way out of this machine")
        if lab.up(self.config):
            raise ui.Failed("the lab does not come up: see above")
        self.nginx = support.Nginx({"198.19.0.10": "reviews v1, from nginx", "198.19.0.12": "reviews v2, from nginx"})
        for name, address in (("ratings-a", "198.19.0.14"), ("ratings-b", "198.19.0.15"), ("details", "198.19.0.16"),
                              ("payments-a", "198.19.0.17"), ("payments-b", "198.19.0.18")):
            self.origins[name] = support.Origin(address, name)
        ui.say("lab: origins started: nginx (reviews), python (ratings, details, payments)")
        ui.say(PICTURE)

    def __exit__(self, *ignored):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)  # a second ctrl-C would leave half of it behind
        for origin in self.origins.values():
            with contextlib.suppress(OSError):
                origin.kill()
        if self.nginx:
            self.nginx.stop()
        lab.down(keep_quiet=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        ui.say("demo: processes, namespaces and temporary files are gone")
        return False


# ---- scenes

def first_request(stage):
    scene(1, "One request", "curl's packets leave Linux's TCP, go through ours, through a Gateway and a VirtualService, and on to nginx.",
          "10-gateway.yaml, 20-reviews.yaml")
    log = support.Log()
    shown(f"sudo ./foil lab exec client -- curl -si -H 'host: {REVIEWS}' http://{support.GATEWAY}/hello")
    done = support.curl("-i", "-H", f"host: {REVIEWS}", f"http://{support.GATEWAY}/hello")
    for line in done.stdout.strip().splitlines():
        ui.say("   " + line)
    expect(done.stdout.startswith("HTTP/1.1 200"), done.stdout + done.stderr)
    log_line(log, "/hello")


def split(n, headers=None):
    client, counted = support.Client(REVIEWS), {"v1": 0, "v2": 0}
    try:
        for _ in range(n):
            status, _, body = client.ask("/", headers=headers)
            expect(status == 200, f"status {status}")
            counted[body.decode()[8:10]] += 1
    finally:
        client.close()
    return counted


def show_split(counted):
    n = sum(counted.values())
    for version, count in sorted(counted.items()):
        ui.say(f"   {version}  {count:5}  {100 * count / n:5.1f} %  {bar(count, n)}")


def canary(stage):
    scene(2, "A canary: 90 % to v1, 10 % to v2", "The VirtualService \"reviews\" has two weighted destinations. 2,000 requests:",
          "20-reviews.yaml, route \"canary\"")
    counted = split(2000)
    show_split(counted)
    expect(130 <= counted["v2"] <= 270, f"{counted['v2']} of 2000 reached v2")  # 5 sigma


def header_route(stage):
    scene(3, "Routing by header", "Who sends \"end-user: jason\" gets v2, always. 200 requests:", "20-reviews.yaml, route \"signed-in\"")
    counted = split(200, {"end-user": "jason"})
    show_split(counted)
    expect(counted["v1"] == 0, "a request of jason's reached v1")


def edit_under_load(stage):
    scene(4, "Changing the mesh under load", """wrk sends as much as it can while the weights change from 90/10 to 10/90 in the file.
          The agent sees the file, compiles it and sends the data plane what is new; no request may fail.""", "20-reviews.yaml, edited")
    path = stage.config + "/20-reviews.yaml"
    with open(path) as f:
        text = f.read()
    load, before = support.wrk(REVIEWS, seconds=3), support.snapshot()["version"]
    time.sleep(1)
    started = time.monotonic()
    support.replace(path, re.sub(r"weight: (90|10)\b", lambda m: f"weight: {100 - int(m.group(1))}", text))
    support.wait_applied(before)
    took_ms = (time.monotonic() - started) * 1000
    result = support.wrk_result(load)
    bad = result["bad"] + result["socket_errors"]
    ui.say(f"   {result['requests']} requests in 3 s ({result['per_s']:.0f} a second), {bad} failed; the change was in force after {took_ms:.0f} ms")
    expect(bad == 0, result["text"])
    counted = split(500)
    show_split(counted)
    expect(counted["v2"] > counted["v1"], "the new weights are not in force")
    before = support.snapshot()["version"]
    support.replace(path, text)
    support.wait_applied(before)


def retry(stage):
    scene(5, "A backend dies: the request is tried again", """ratings has two endpoints. One is killed; every request that would have gone there is tried
          at the other, and the client sees nothing of it. 20 requests:""", "30-ratings.yaml, retries")
    client, log = support.Client(RATINGS), support.Log()
    for i in range(4):
        client.ask(f"/warm{i}")
    stage.origins["ratings-a"].kill()
    answers = [client.ask(f"/r{i}")[0] for i in range(20)]
    client.close()
    stage.origins["ratings-a"].start()
    tries = [s["headers"].get("x-envoy-attempt-count") for s in stage.origins["ratings-b"].seen]
    again = sum(t not in (None, "1") for t in tries)
    ui.say(f"   {answers.count(200)} of 20 got 200; {again} of them on a second attempt (x-envoy-attempt-count)")
    expect(answers.count(200) == 20, str(answers))
    log_line(log, "/r0 ")


def circuit(stage):
    scene(6, "An open circuit", """details may have one connection and one request waiting. Its origin is slow now, and ten clients come at once:
          two are served, and the others are told at once instead of piling up.""", "40-details.yaml, connectionPool")
    stage.origins["details"].delay_s = 0.5
    log = support.Log()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        started = time.monotonic()
        answers = list(pool.map(lambda i: (support.ask(DETAILS, f"/d{i}"), time.monotonic() - started), range(10)))
    stage.origins["details"].delay_s = 0
    refused = [took for (status, headers, _), took in answers if status == 503 and headers.get("x-envoy-overloaded") == "true"]
    served = [took for (status, _, _), took in answers if status == 200]
    expect(served and refused, str([a[0][0] for a in answers]))
    ui.say(f"   200: {len(served)}, after {min(served):.2f} to {max(served):.2f} s")
    ui.say(f"   503: {len(refused)}, after {max(refused) * 1000:.0f} ms at most, with x-envoy-overloaded: true")
    log_line(log, " 503 ", " UO ")


def ejection(stage):
    scene(7, "An endpoint that fails is ejected, and comes back", """One of the two endpoints of payments answers 503. After five errors in a row it is left out
          for three seconds; all requests go to the other one.""", "50-payments.yaml, outlierDetection")
    bad = stage.origins["payments-a"]
    bad.status = 503
    client = support.Client(PAYMENTS)
    answers = [client.ask("/pay") for _ in range(30)]
    marks = "".join("x" if status == 503 else "." for status, _, _ in answers)
    ui.say(f"   30 requests, x is an error that the client saw:  {marks}")
    expect(marks.count("x") == 5 and marks.endswith("." * 10), marks)
    bad.status = 200
    started = time.monotonic()
    support.wait_for(lambda: client.ask("/pay")[1].get("x-origin") == "payments-a", 15, "the endpoint does not come back", every_s=0.1)
    ui.say(f"   it is well again, and gets requests again after {time.monotonic() - started:.1f} s")
    client.close()


def show_metrics(stage):
    scene(8, "What the metrics say", "Istio's standard metrics, by response code and flag, of everything above:")
    metrics, sums = support.Metrics(), {}
    for name, labels, value in metrics.samples:
        if name == "istio_requests_total" and value:
            key = (labels.get("destination_service_name") or labels.get("destination_service", "?"), labels.get("response_code"),
                   labels.get("response_flags"))
            sums[key] = sums.get(key, 0) + value
    ui.say(f"   {'istio_requests_total':>20}  {'destination':32} code  flag")
    for (service, code, flag), value in sorted(sums.items(), key=lambda item: -item[1])[:12]:
        ui.say(f"   {value:20.0f}  {service[:32]:32} {code:5} {flag}")
    expect(sums, "no istio_requests_total")


def places(stage):
    ui.say(f"""
   metrics        http://127.0.0.1:15090/stats/prometheus (Istio's scrapers look there; /metrics is the same)
   status         http://127.0.0.1:15000/status, or {os.path.relpath(build.program('foilctl'), ui.ROOT)} status
   access log     {lab.read_state()['access_log']}
   configuration  conf/examples/bookinfo-like""")


SCENES = [first_request, canary, header_route, edit_under_load, retry, circuit, ejection, show_metrics, places]


# ---- the end of a demo that was not asked to end

def live(stage):
    ui.say(f"""
The lab is up, with a little traffic, until ctrl-C. In another terminal:
   sudo ./foil lab exec client -- curl -si -H 'host: {REVIEWS}' http://{support.GATEWAY}/api/v1/books
   sudo ./foil lab exec client -- wrk -c 64 -d 5s -H 'host: {REVIEWS}' http://{support.GATEWAY}/
   curl -s http://127.0.0.1:15090/stats/prometheus | grep istio_requests_total
   edit {stage.config}/20-reviews.yaml and watch v1 and v2 below
""")
    clients = [support.Client(REVIEWS) for _ in range(2)]
    shown_at, before, counted = time.monotonic(), support.Metrics(), {"v1": 0, "v2": 0, "?": 0}
    ui.say(f"   {'requests/s':>10}  {'5xx/s':>6}  {'mean ms':>8}  {'v1':>4} {'v2':>4}   (from http://127.0.0.1:15090/stats/prometheus)")
    while True:
        for client in clients:
            with contextlib.suppress(OSError):
                _, _, body = client.ask("/")
                version = body.decode("utf-8", "replace")[8:10]
                counted[version if version in counted else "?"] += 1
        time.sleep(0.02)
        took_s = time.monotonic() - shown_at
        if took_s >= LIVE_EVERY_S:
            now = support.Metrics()
            show_live(before, now, took_s, counted)
            shown_at, before, counted = time.monotonic(), now, dict.fromkeys(counted, 0)


def show_live(before, now, took_s, counted):
    def grown(name, **labels):
        return now.sum(name, **labels) - before.sum(name, **labels)
    requests = grown("istio_requests_total")
    errors = sum(grown("istio_requests_total", response_code=code) for code in (500, 502, 503, 504))
    spent, n = grown("istio_request_duration_milliseconds_sum"), grown("istio_request_duration_milliseconds_count")
    ui.say(f"   {requests / took_s:10.0f}  {errors / took_s:6.0f}  {spent / n if n else 0:8.2f}  {counted['v1']:4} {counted['v2']:4}")


def interrupted(*ignored):
    raise KeyboardInterrupt


def main(argv):
    if argv not in ([], ["--once"]):
        raise ui.Failed("usage: ./foil demo [--once]")
    ui.need_root("demo")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell's background job begins with SIGINT ignored
        signal.signal(sig, interrupted)
    ui.say("Hydrofoil: a service mesh's data plane, in user space. This builds it, makes a network for it, and shows it at work.\n")
    build.build("release", build.PROGRAMS)
    os.environ["FOIL_NO_BUILD"] = "1"
    try:
        with Stage() as stage:
            stage.open()
            for play in SCENES:
                play(stage)
            if argv:
                ui.say("\nThat is all. Without --once the lab stays up for you until ctrl-C.")
            else:
                live(stage)
    except AssertionError as e:
        raise Unexpected(f"the demo expected something else here: {e}") from e
    except KeyboardInterrupt:
        ui.say("")
        return 0 if not argv else 130
    return 0
