"""Autobahn's WebSocket cases: its fuzzing client talks to its own echo server, once without anybody between, once through HAProxy and once through us. Each
case must end alike. Needs wstest (autobahntestsuite, which is Python 2): in the path, or named by FOIL_WSTEST; docs/testing.md says how to get it. FOIL_FULL=1:
all cases, with those of limits and compression, which take many minutes."""
import json
import os
import shutil
import tempfile
import time

import run
import support
from foilrun import lab, ui
from support import Skip, check, wait_for

TESTEE, PORT, HAPROXY_PORT = "198.19.0.10", 9001, 9002  # the testee listens at every address, and takes no Host with another port
SHORT, FULL = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.1.*", "6.2.*", "6.3.*", "7.*", "10.*", "12.1.1", "12.1.2", "13.1.1", "13.7.1"], ["*"]
CONFIG = support.gateway('{port: {number: 9001, name: http, protocol: HTTP}, hosts: ["*"]}') + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: testee, namespace: app}
spec: {hosts: ["*"], gateways: [istio-system/main], http: [{route: [{destination: {host: testee.test}}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: testee, namespace: app}
spec: {hosts: [testee.test], resolution: STATIC, ports: [{number: 9001, name: http, protocol: HTTP}], endpoints: [{address: 198.19.0.10}]}
""" + support.mesh_config()
HAPROXY = f"""defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 600s
listen one
    bind {TESTEE}:{HAPROXY_PORT}
    http-request set-header Host {TESTEE}:{PORT}
    server testee {TESTEE}:{PORT}
"""


def wstest():
    return os.environ.get("FOIL_WSTEST") or shutil.which("wstest")


def fuzz(folder, agent, namespace, url, cases):
    """{case: (behaviour, how it closed)}"""
    spec = {"outdir": f"{folder}/{agent}", "servers": [{"agent": agent, "url": url}], "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
    support.replace(f"{folder}/{agent}.json", json.dumps(spec))
    done = support.run_in(namespace, wstest(), "-m", "fuzzingclient", "-s", f"{folder}/{agent}.json", timeout_s=7200 if os.environ.get("FOIL_FULL") else 300,
                          cwd=folder)
    check(os.path.exists(f"{folder}/{agent}/index.json"), f"{agent}: {done.returncode} {done.stdout[-300:]} {done.stderr[-300:]}")
    with open(f"{folder}/{agent}/index.json") as f:
        return {name: (case["behavior"], case["behaviorClose"]) for name, case in json.load(f)[agent].items()}


def test_cases_end_as_without_us():
    if not wstest():
        raise Skip("no wstest")
    folder, processes = tempfile.mkdtemp(prefix="foil-autobahn-"), []
    os.mkdir(folder + "/config")
    support.replace(folder + "/config/all.yaml", CONFIG)
    support.replace(folder + "/haproxy.cfg", HAPROXY)
    try:
        status, text = run.quietly_up(folder + "/config")
        check(status == 0, text)
        processes.append(support.start_in("backends", wstest(), "-m", "testeeserver", "-w", f"ws://{TESTEE}:{PORT}"))
        if shutil.which("haproxy"):
            processes.append(support.start_in("backends", "haproxy", "-f", folder + "/haproxy.cfg"))

        def listens():
            with support.socket_in("backends") as s:
                return s.connect_ex((TESTEE, PORT)) == 0
        wait_for(listens, 20, "the testee does not listen")
        cases, began = FULL if os.environ.get("FOIL_FULL") else SHORT, time.monotonic()
        direct = fuzz(folder, "direct", "backends", f"ws://{TESTEE}:{PORT}", cases)
        ours = fuzz(folder, "hydrofoil", "client", f"ws://{support.GATEWAY}:{PORT}", cases)
        print(f"# {len(ours)} cases, {time.monotonic() - began:.0f} s", flush=True)
        check(len(direct) > 100 and set(direct) == set(ours), f"{len(direct)} cases without, {len(ours)} with us")
        others = fuzz(folder, "haproxy", "backends", f"ws://{TESTEE}:{HAPROXY_PORT}", cases) if len(processes) > 1 else direct
        bad = {name: (direct[name], others.get(name), ours[name]) for name in direct if ours[name] != direct[name]}
        check(not bad, f"{len(bad)} of {len(direct)} end otherwise (without, through HAProxy, through us): {bad}")
        check(all(b in ("OK", "NON-STRICT", "INFORMATIONAL") for b, _ in ours.values()), f"{[n for n, (b, _) in ours.items() if b not in ('OK', 'NON-STRICT', 'INFORMATIONAL')]}")
    finally:
        for p in processes:
            ui.kill_group(p)
        lab.down(keep_quiet=True)
        shutil.rmtree(folder, ignore_errors=True)
