"""What foilctl says of a running lab and of its configuration, and what a person reads there is true."""
import json
import subprocess

import shared
from foilrun import lab
from support import ask, check

WITH_LAB = True
REVIEWS = "reviews.example.com"


def foilctl(*words, status=0):
    done = subprocess.run([lab.read_state()["programs"]["foilctl"], *words], capture_output=True, text=True, timeout=30)
    check(done.returncode == status, f"foilctl {' '.join(words)}: status {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


def test_status_names_the_snapshot_that_is_in_force():
    version = str(lab.status()["snapshot"]["version"])
    said = foilctl("status")
    check("applied" in said and version in said, said)
    check(json.loads(foilctl("status", "--json"))["snapshot"]["state"] == "applied", "not applied")


def test_stats_finds_metrics_by_word():
    ask(REVIEWS)
    said = foilctl("stats", "istio_requests_total", "200")
    check(said and all("istio_requests_total" in line for line in said.splitlines() if not line.startswith("#")), said)
    check("foil_tcp" in foilctl("stats", "foil_tcp"), "no counters of tcp")


def test_config_dump_is_json_with_every_cluster():
    dump = foilctl("config", "dump")
    json.loads(dump)
    for host in ("reviews.bookinfo.svc.cluster.local", "ratings.bookinfo", "details.bookinfo.svc.cluster.local", "payments.bookinfo"):
        check(host in dump, f"no {host} in the dump")


def test_explain_names_route_cluster_and_file():
    said = foilctl("explain", "--config", shared.CONFIG, "-H", "end-user: jason", f"http://{REVIEWS}/")
    for word in ("signed-in", "reviews", "v2", "20-reviews.yaml"):
        check(word in said, f"no {word}: {said}")
    said = foilctl("explain", "--config", shared.CONFIG, f"http://{REVIEWS}/api/v1/books")
    check("versioned" in said, said)


def test_validate_says_that_the_example_is_fine():
    check(" 0 errors" in foilctl("validate", shared.CONFIG), "the example has errors")


def test_check_has_a_line_for_each_thing_that_matters():
    done = subprocess.run([lab.read_state()["programs"]["foilctl"], "check", lab.DEFAULT_NODE], capture_output=True, text=True, timeout=30)
    check(done.returncode in (0, 1), done.stderr)
    for topic in ("hugepages", "iommu", "cores", "nic"):
        check(topic in done.stdout, f"nothing about {topic}: {done.stdout}")


def test_who_asks_no_agent_is_told_so():
    done = subprocess.run([lab.read_state()["programs"]["foilctl"], "status", "--agent", "127.0.0.7"], capture_output=True, text=True, timeout=30)
    check(done.returncode == 1 and "foil-agent" in done.stderr, done.stdout + done.stderr)
