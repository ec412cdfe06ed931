"""The page /perf of foil-agent: it is there, its figures are those of /stats/prometheus, and stages make up the busy cycles."""
import json
import os
import urllib.request

import shared  # noqa: F401  (the lab's origins)
from foilrun import ui
from support import ask, check

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
