"""What foilctl says of a running lab and of its configuration, and what a person reads there is true."""
import json
import os
import subprocess
import tempfile

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


CAPTURED = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: app}
spec:
  hosts: [db.test]
  addresses: [10.0.0.1]
  resolution: STATIC
  ports: [{number: 3306, name: mysql, protocol: TCP}, {number: 443, name: tls, protocol: TLS}]
  endpoints: [{address: 198.19.0.10, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: app}
spec: {host: db.test, subsets: [{name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: app}
spec:
  hosts: [db.test]
  tcp:
  - match: [{port: 3307}]
    route: [{destination: {host: db.test}}]
  - route: [{destination: {host: db.test, subset: v2}}]
"""
SIDECAR = """---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: few, namespace: clients}
spec:
  egress:
  - hosts: ["clients/*"]
"""
NODE = """agent_socket: /tmp/explain.sock
state_dir: /tmp/explain
ports: [{uri: "af_packet:iface=eth0", addresses: [192.0.2.2/24]}]
captured: [10.0.0.0/8]
service_account: clients/node
"""


def test_explain_tells_the_way_of_a_connection():
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "db.yaml")
        with open(file, "w") as out:
            out.write(CAPTURED)
        said = foilctl("explain", "--config", folder, "tcp://10.0.0.1:3306")
        for part in (f"passed over: rule tcp[0] (VirtualService/app/db at {file}:22:5): port is 3306, wanted 3307",
                     f"taken: rule tcp[1] (VirtualService/app/db at {file}:24:5)", "cluster outbound|3306|v2|db.test", "endpoint 198.19.0.10:3306"):
            check(part in said, f"no {part}: {said}")
        told = json.loads(foilctl("explain", "--config", folder, "--json", "tls://db.test"))
        check(told["goes_on"] and [s["step"] for s in told["steps"] if s.get("verdict") != "passed over"] ==
              ["request", "listener", "chain", "route", "cluster", "policy", "endpoint"], told)
        lost = [s for s in told["steps"] if s.get("verdict") == "passed over" and s["step"] == "route"]
        check(lost[0]["file"] == file and lost[0]["line"] == 16 and lost[0]["column"] == 1 and "tls rules" in lost[0]["reason"], lost)


def test_explain_names_the_sidecar_of_a_node_that_hides_a_host():
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w", suffix=".yaml") as node:
        file = os.path.join(folder, "db.yaml")
        with open(file, "w") as out:
            out.write(CAPTURED + SIDECAR)
        node.write(NODE)
        node.flush()
        check("hidden" not in foilctl("explain", "--config", folder, "tcp://db.test:3306"), "it is a Sidecar of others")
        said = foilctl("explain", "--config", folder, "--node", node.name, "tcp://db.test:3306")
        check(f"(Sidecar/clients/few at {file}:31:12)" in said and "chain PassthroughCluster" in said, said)


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
