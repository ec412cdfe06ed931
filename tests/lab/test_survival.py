"""Changes and deaths under load: no request may fail because the configuration or the agent came or went."""
import os
import re
import signal
import time

import shared
from foilrun import lab
from support import ask, check, replace, snapshot, wait_applied, wait_for, wrk, wrk_result

WITH_LAB = True
REVIEWS = "reviews.example.com"


def no_failure(result, at_least=1000):
    check(result["bad"] == 0 and result["socket_errors"] == 0, result["text"])
    check(result["requests"] >= at_least, "too few requests to say anything: " + result["text"])


def test_config_edits_under_load_fail_no_request_and_take_effect():
    path = shared.config_file("20-reviews.yaml")
    with open(path) as f:
        original = f.read()
    with shared.NginxInstead("v1", "v2"):
        load = wrk(REVIEWS, seconds=8)
        try:
            for v1 in (50, 10, 100, 0, 90):
                version = snapshot()["version"]
                replace(path, re.sub(r"weight: (90|10)\b", lambda m: f"weight: {v1 if m.group(1) == '90' else 100 - v1}", original))
                wait_applied(version)
                bodies = [ask(REVIEWS)[2][:2] for _ in range(20)]
                if v1 in (0, 100):
                    check(set(bodies) == {b"v1" if v1 else b"v2"}, f"v1 has {v1} %: {bodies}")
                time.sleep(0.3)
            no_failure(wrk_result(load))
        finally:
            replace(path, original)
            wait_for(lambda: snapshot().get("state") == "applied", 10, "not applied")


def test_agent_killed_twenty_times_under_load_fails_no_request():
    with shared.NginxInstead("v1", "v2"):
        load = wrk(REVIEWS, seconds=30)
        for i in range(20):
            state = lab.read_state()
            os.kill(state["processes"]["foil-agent"]["pid"], signal.SIGKILL)
            lab.reap(state["processes"]["foil-agent"]["pid"])
            if i % 2:
                time.sleep(0.2)  # a while without
            lab.start_agent(state)
            wait_for(lambda: snapshot().get("state") == "applied", 10, lambda: f"round {i}: {snapshot()}")
        still = load.poll() is None
        result = wrk_result(load)
    check(still, "the load ended before the agents did")
    no_failure(result)


def test_data_plane_says_that_its_agent_is_gone_and_serves():
    state = lab.read_state()
    os.kill(state["processes"]["foil-agent"]["pid"], signal.SIGKILL)
    lab.reap(state["processes"]["foil-agent"]["pid"])
    check(ask(REVIEWS)[0] == 200, "no answer without the agent")
    lab.start_agent(state)
    wait_for(lambda: snapshot().get("state") == "applied", 10, lambda: str(snapshot()))


def test_a_data_plane_that_stands_still_is_neither_ready_nor_alive():
    pid = lab.read_state()["processes"]["hydrofoil"]["pid"]

    def health(page):
        return lab.get(f"/healthz/{page}", 15021)[0]
    check(health("ready") == 200 and health("live") == 200, "not well before")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: health("live") == 503 and health("ready") == 503, 10, "nobody notices that the workers stand still", every_s=0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: health("live") == 200 and health("ready") == 200, 10, "not well again", every_s=0.5)


def restart_s(state):
    """Seconds from exec to the first answer."""
    lab.end_process(state["processes"]["hydrofoil"], ((signal.SIGTERM, 0.2), (signal.SIGTERM, 5)))
    check(not lab.is_ours(state["processes"]["hydrofoil"]), "two SIGTERMs did not end hydrofoil")
    started = time.monotonic()
    lab.start_hydrofoil(state)

    def served():
        try:
            return ask(REVIEWS, timeout_s=0.1)[0] == 200  # a SYN before it listens is lost: do not wait for the kernel to repeat it
        except OSError:
            return False
    wait_for(served, 10, "it does not serve from disk", every_s=0.01)
    return time.monotonic() - started


def test_restart_without_agent_serves_from_disk_in_less_than_a_second():
    state = lab.read_state()
    lab.end_process(state["processes"]["foil-agent"], ((signal.SIGKILL, 3),))
    took_s = []
    while len(took_s) < 3 and min(took_s, default=1) >= 1:  # what it takes, not what else the machine does at the time
        took_s.append(restart_s(state))
        state = lab.read_state()
    lab.start_agent(state)
    wait_for(lambda: snapshot().get("state") == "applied", 15, lambda: str(snapshot()))
    check(min(took_s) < 1, f"{took_s} s from exec to the first answer")


def test_sigterm_drains_what_is_in_flight():
    shared.ORIGINS["v1"].delay_s = 1.5
    import threading
    answers = []
    asker = threading.Thread(target=lambda: answers.append(ask(REVIEWS, "/reviews/7")[0]))
    asker.start()
    wait_for(lambda: shared.ORIGINS["v1"].seen, 5, "the request did not arrive")
    state = lab.read_state()
    os.kill(state["processes"]["hydrofoil"]["pid"], signal.SIGTERM)
    asker.join(10)
    check(answers == [200], f"the request in flight got {answers}")
    wait_for(lambda: lab.reap(state["processes"]["hydrofoil"]["pid"]) or not lab.is_ours(state["processes"]["hydrofoil"]), 8, "it does not end")
    shared.calm()
    hydrofoil = lab.start_hydrofoil(state)
    lab.wait_for_socket(state, hydrofoil)
    wait_for(lambda: snapshot().get("state") == "applied", 15, lambda: str(snapshot()))
    wait_for(lambda: ask(REVIEWS)[0] == 200, 5, "no answer after the restart")


def write_while_serving(name, text):
    """A bad file beside good ones: said by name, and everything else goes on. Returns the agent's diagnostics."""
    path, version = shared.config_file(name), snapshot()["version"]
    replace(path, text)
    try:
        wait_for(lambda: snapshot().get("version") != version, 10, "the agent did not read the new file")
        wait_for(lambda: name in lab.get("/diagnostics")[1], 5, lambda: "no diagnostic names the file: " + lab.get("/diagnostics")[1])
        check(ask(REVIEWS)[0] == 200, "the rest does not go on")
        return lab.get("/diagnostics")[1]
    finally:
        version = snapshot()["version"]
        os.unlink(path)
        wait_applied(version)


def test_half_written_file_is_refused_by_line_and_the_rest_goes_on():
    said = write_while_serving("90-half.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namesp")
    check(re.search(r"90-half\.yaml:[34]:\d+", said), said)


def test_alias_bomb_is_refused_and_the_rest_goes_on():
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    check("90-bomb.yaml" in write_while_serving("90-bomb.yaml", bomb), "")


def test_resource_with_an_unknown_field_is_refused_by_name_and_line():
    said = write_while_serving("90-field.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad, namespace: bookinfo}\n"
                               "spec:\n  hosts: [x.example.com]\n  gateways: [front]\n  htttp: []\n")
    check("bad" in said and re.search(r"90-field\.yaml:7:\d+", said), said)
