"""The page /perf of foil-agent: it is there, its figures are those of /stats/prometheus, and stages make up the busy cycles."""
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import shared  # noqa: F401  (the lab's origins)
from foilrun import lab, ui
from support import Skip, ask, check, wait_for

WITH_LAB = True
REVIEWS = "reviews.example.com"


def fetch(path):
    with urllib.request.urlopen("http://127.0.0.1:15000" + path, timeout=10) as answer:
        return answer.headers["content-type"], answer.read().decode()


def exposition():
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in fetch("/stats/prometheus")[1].splitlines() if line and line[0] != "#"}


def test_page_is_one_file_that_asks_nobody_else():
    kind, page = fetch("/perf")
    check(kind.startswith("text/html"), kind)
    check("What to tune" in page, page[:300])
    check("http://" not in page and "https://" not in page, "the page fetches from elsewhere")


def test_page_runs_its_own_script_and_nothing_else():
    with urllib.request.urlopen("http://127.0.0.1:15000/perf", timeout=10) as answer:
        headers, page = answer.headers, answer.read()
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    for kind in (b"script", b"style"):
        texts = re.findall(b"<" + kind + b">(.*?)</" + kind + b">", page, re.DOTALL)
        check(len(texts) == page.count(b"<" + kind) == 1, f"{len(texts)} of {kind}")
        own = "'sha256-" + base64.b64encode(hashlib.sha256(texts[0]).digest()).decode() + "'"
        check(policy[kind.decode() + "-src"] == own, (policy, own))
    check(not re.search(rb"<[^>]*\s(on\w+|style)=", page), "an attribute that the policy forbids")
    check(policy["default-src"] == "'none'" and policy["connect-src"] == "'self'" and policy["frame-ancestors"] == "'none'", policy)
    check(headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff", headers)


def test_figures_agree_with_the_metrics():
    for _ in range(50):
        check(ask(REVIEWS)[0] == 200, "no answer")
    before, cells, after = exposition(), json.loads(fetch("/perf.json")[1])["cells"], exposition()
    n_checked = 0
    for name in ("foil_mesh_requests_total", "foil_net_rx_packets_total", "foil_core_busy_cycles_total", "foil_core_loops_total", "foil_tcp_segments_tx_total"):
        now = sum(cells[name])
        check(before[name] <= now <= after[name], f"{name}: {now} is not between {before[name]} and {after[name]}")
        n_checked += 1
    check(n_checked == 5, "names are missing")


def test_stages_are_told_and_stay_within_the_busy_cycles():
    for _ in range(400):  # one busy turn in about sixty-four is told
        ask(REVIEWS)
    now = json.loads(fetch("/perf.json")[1])
    total = sum(sum(v) for k, v in now["cells"].items() if k.startswith("foil_core_stage_") and k.endswith("_cycles_total"))
    check(sum(now["cells"]["foil_core_sampled_turns_total"]) > 0, "no turn was told by stage")
    check(0 < total <= sum(now["cells"]["foil_core_busy_cycles_total"]), f"{total} cycles by stage")
    check(sum(now["cells"]["foil_core_stage_http_calls_total"]) > 0, "nothing of HTTP")
    check(sum(sum(v) for k, v in now["cells"].items() if k.startswith("foil_core_burst_")) > 0, "no bursts")
    check(now["latency"]["counts"] and sum(now["latency"]["counts"]) > 400, "latencies are missing")


def test_grafana_dashboard_names_only_metrics_that_are_there():
    with open(os.path.join(ui.ROOT, "perf/dashboards/hydrofoil-perf.json")) as f:
        dashboard = json.load(f)
    there = {name.split("{")[0] for name in exposition()}
    words = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            for word in target["expr"].replace("(", " ").replace("{", " ").replace(")", " ").split():
                if word.startswith("foil_") and "~" not in word:
                    words.add(word)
    check(len(words) > 20, f"only {len(words)} metrics")
    check(words <= there, f"unknown: {sorted(words - there)}")


def test_figures_agree_with_foilctl_within_a_hundredth():
    names = ("foil_mesh_requests_total", "foil_net_rx_packets_total", "foil_net_tx_packets_total", "foil_tcp_segments_rx_total", "foil_core_busy_cycles_total")
    command = [lab.read_state()["programs"]["foilctl"], "stats", "foil_", "--json"]
    for _ in range(100):
        ask(REVIEWS)
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    check(told.returncode == 0, told.stderr)
    cells = json.loads(fetch("/perf.json")[1])["cells"]
    stats = {one["sample"]: one["value"] for one in json.loads(told.stdout)}
    for name in names:
        here, there = sum(cells[name]), stats[name]
        check(abs(here - there) <= here / 100, f"{name}: the page says {here}, foilctl {there}")


def query(port, expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        return json.load(e)


def test_grafana_expressions_have_answers_in_a_prometheus():
    """Each expression of the dashboard, asked of a Prometheus that has scraped the agent: it is valid, and it has a value."""
    if not shutil.which("prometheus"):
        raise Skip("no prometheus here: apt-get install prometheus")
    with open(os.path.join(ui.ROOT, "perf/dashboards/hydrofoil-perf.json")) as f:
        expressions = [t["expr"] for panel in json.load(f)["panels"] for t in panel["targets"]]
    folder, port = tempfile.mkdtemp(prefix="foil-prometheus-"), 19090
    with open(folder + "/prometheus.yml", "w") as f:
        f.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: hydrofoil\n  metrics_path: /stats/prometheus\n"
                "  static_configs: [{targets: ['127.0.0.1:15000']}]\n")
    with open(folder + "/prometheus.out", "w") as out:
        p = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                             stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        def scraped():
            ask(REVIEWS)
            try:
                found = query(port, "count_over_time(up[1m]) and up == 1")["data"]["result"]
            except (OSError, ValueError):  # it is not up yet
                return False
            return found and float(found[0]["value"][1]) >= 4
        wait_for(scraped, 60, "Prometheus has not scraped the agent four times", every_s=0.2)
        for expression in expressions:
            said = query(port, expression.replace("$instance", ".*").replace("$__rate_interval", "30s"))
            check(said["status"] == "success", f"{expression}: {said.get('error')}")
            check(said["data"]["result"] or "> 0)" in expression, f"{expression}: no answer")  # nothing was dropped: no line
        check(len(expressions) > 20, f"only {len(expressions)} expressions")
    finally:
        p.terminate()
        p.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
