"""Ejected hosts that come back by one request (hydrofoil.io/outlier-recovery: probe): who is let through when, over two workers and many clients, and what
brings the host back."""
import os
import threading
import time

import support
from resources import destination_rule, own_lab, service_entry, two_workers, virtual_service
from support import Skip, check, wait_for
from told import Grew

HOST, GOOD, BAD = "probed.test", "198.19.0.70", "198.19.0.71"
POLICY = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 3}"
CONFIG = (support.gateway() + service_entry("probed", GOOD, BAD)
          + destination_rule("probed", HOST, POLICY).replace("name: probed,", "name: probed, annotations: {hydrofoil.io/outlier-recovery: probe},")
          + virtual_service("probed", f"[{HOST}]", [f"retries: {{attempts: 0}}, route: [{{destination: {{host: {HOST}, port: {{number: 8080}}}}}}]"]))
CLIENTS = 16


def ask_until(over, found):
    """One client, 20 requests a second."""
    c = support.Client(HOST)
    while not over.is_set():
        found.append(c.ask("/")[0])
        time.sleep(0.05)
    c.close()


def test_one_request_tries_an_ejected_host_over_two_workers():
    if (os.cpu_count() or 1) < 2:
        raise Skip("one CPU")
    with own_lab("probation", CONFIG, two_workers):
        good, bad = support.Origin(GOOD, "good"), support.Origin(BAD, "bad")
        bad.status = 500
        with Grew("foil_mesh_outlier_ejections_total"):
            c = support.Client(HOST)
            wait_for(lambda: [c.ask("/")[0] for _ in range(6)] == [200] * 6, 5, "is not ejected")
        n_before, over, found = len(bad.seen), threading.Event(), []
        threads = [threading.Thread(target=ask_until, args=(over, found)) for _ in range(CLIENTS)]
        for t in threads:
            t.start()
        with Grew("foil_mesh_outlier_probes_failed_total", 3), Grew("foil_mesh_outlier_ejections_total", 0):
            wait_for(lambda: len(bad.seen) - n_before >= 3, 15, "is not tried")  # after 1 to 1.5 s, 2 to 3 more, 4 to 6 more
        check(len(bad.seen) - n_before == 3 == found.count(500), f"{len(bad.seen) - n_before} requests tried it, {found.count(500)} of {len(found)} failed")
        with Grew("foil_mesh_outlier_returns_total"), Grew("foil_mesh_outlier_probes_total"):
            bad.status = 200
            wait_for(lambda: len(bad.seen) - n_before > 40, 15, "does not come back")
        over.set()
        for t in threads:
            t.join()
        check(found.count(500) == 3 and len(found) > 500, f"{found.count(500)} of {len(found)} failed")
        good.kill()
        bad.kill()
