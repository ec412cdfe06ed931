"""Active health checks over HTTP and TCP: who answers badly is not used until it answers well again. Also those of a WorkloadGroup's probe."""
import contextlib
import os
import time

import support
from resources import TCP, destination_rule, own_lab, resource, service_entry, two_workers, virtual_service
from support import Skip, ask, check, wait_for

A, B, RAW = "198.19.0.40", "198.19.0.41", "198.19.0.42"
HOST, L4 = "checked.example.com", 9000
CHECK = ('loadBalancer: {simple: ROUND_ROBIN}, healthCheck: {httpGet: {path: /healthz, host: health.test, headers: {x-probe: "1"}, expectedStatuses: ["200-299", "404"]}, '
         "interval: 0.2s, noTrafficInterval: 0.2s, timeout: 0.5s, unhealthyThreshold: 2, healthyThreshold: 2}")
CHECK_TCP = "loadBalancer: {simple: ROUND_ROBIN}, healthCheck: {tcpSocket: {}, interval: 0.2s, noTrafficInterval: 0.2s}"
CONFIG = "".join((
    support.gateway(support.HTTP_80, '{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}'),
    virtual_service("checked", "[checked.example.com]", ["retries: {attempts: 0}, route: [{destination: {host: checked.test, port: {number: 8080}}}]"]),
    virtual_service("raw", '["*"]', ["match: [{port: 9000}], route: [{destination: {host: raw.test, port: {number: 8080}}}]"], kind="tcp"),
    service_entry("checked", A, B), destination_rule("checked", "checked.test", CHECK),
    service_entry("raw", A, RAW, ports=TCP), destination_rule("raw", "raw.test", CHECK_TCP), support.mesh_config()))


@contextlib.contextmanager
def checked(n_workers=1):
    with own_lab("health", CONFIG, two_workers if n_workers == 2 else lambda node: node):
        origins = {A: support.Origin(A, "a"), B: support.Origin(B, "b"), RAW: support.Origin(RAW, "raw")}
        try:
            yield origins
        finally:
            for origin in origins.values():
                origin.kill()


def who(port=80, n=6):
    """Which origins answer n requests, each on a connection of its own; another answer is its status."""
    found = set()
    for _ in range(n):
        try:
            status, headers, _ = ask(HOST, port=port)
        except OSError as e:
            status, headers = type(e).__name__, {}
        found.add(headers["x-origin"] if status == 200 else status)
    return found


def only(*names, port=80):
    wait_for(lambda: who(port) == set(names), 10, lambda: f"not {names} but {who(port)}")


def counted(name):
    return support.Metrics().sum(f"foil_mesh_{name}_total")


def test_checks_take_hosts_out_and_bring_them_back():
    with checked() as origins:
        only("a", "b")
        only("a", "raw", port=L4)
        wait_for(lambda: any("/healthz" in str(r) for r in list(origins[A].seen)), 5, "the origin was never asked for /healthz")
        # an answer that is not expected: at once
        before = counted("health_check_falls")
        origins[B].status = 500
        wait_for(lambda: counted("health_check_falls") > before, 5, "B did not fall")
        check(who(n=10) == {"a"}, "B is used")
        origins[B].calm()
        only("a", "b")
        # a host that is gone: TCP and HTTP
        before = counted("health_check_falls")
        origins[A].kill()
        wait_for(lambda: counted("health_check_falls") >= before + 2, 10, "A did not fall in both clusters")
        check(who(n=10) == {"b"}, "A is used")
        check(who(L4, n=10) == {"raw"}, "A is used for TCP")
        # all gone: 503 UH
        log = support.Log()
        origins[B].status = 500
        wait_for(lambda: ask(HOST)[2] == b"no healthy upstream", 5, lambda: f"{ask(HOST)}")
        check(" 503 UH " in log.find("UH", "no_healthy_upstream"), "no UH in the log")
        origins[B].calm()
        origins[A].start()
        only("a", "b")
        only("a", "raw", port=L4)
        check(counted("health_check_returns") >= 4, f"{counted('health_check_returns')} returns")


def test_degraded_hosts_are_used_when_well_ones_are_short():
    with checked() as origins:
        only("a", "b")
        with_b = lambda: sum("b" == ask(HOST)[1].get("x-origin") for _ in range(200))
        degraded = lambda: support.Metrics().sum("envoy_cluster_membership_degraded", cluster_name="outbound|8080||checked.test")
        origins[B].headers = {"x-envoy-degraded": ""}
        wait_for(lambda: degraded() == 1, 5, "the gauge does not say that B is degraded")
        n = with_b()  # one of two is well: 1.4 times a half of the requests, and the rest is B's
        check(30 <= n <= 90, f"{n} of 200 at the degraded one, 60 are its share")
        origins[A].status = 500
        only("b")
        origins[A].calm()
        origins[B].calm()
        wait_for(lambda: degraded() == 0, 5, "the gauge does not say that B is well")
        only("a", "b")
        check(with_b() == 100, "they do not take turns again")


def probes(origin):
    return sum("/healthz" in r["path"] for r in list(origin.seen))


def test_two_workers_check_each_host_once_and_believe_each_other():
    if (os.cpu_count() or 1) < 2:
        raise Skip("one CPU")
    with checked(2) as origins:
        only("a", "b")
        # one worker asks for all: 0.2 s apart, not twice as often
        before, began = probes(origins[B]), time.monotonic()
        time.sleep(2)
        n, most = probes(origins[B]) - before, (time.monotonic() - began) / 0.2 * 1.2 + 2
        check(3 <= n <= most, f"{n} checks in two seconds, {most:.0f} at most")
        for _ in range(2):
            falls, returns = counted("health_check_falls"), counted("health_check_returns")
            origins[B].status = 500
            wait_for(lambda: counted("health_check_falls") > falls, 5, "B did not fall")
            time.sleep(0.1)  # a worker believes the other at its next turn
            check(who(n=40) == {"a"}, "one of the workers uses B")
            origins[B].calm()
            wait_for(lambda: counted("health_check_returns") > returns, 5, "B did not return")
            only("a", "b")
            check(counted("health_check_falls") == falls + 1 and counted("health_check_returns") == returns + 1, "a host fell or returned twice")


def workload(name, address, spec="", metadata="", status=""):
    return (f"---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: app, {metadata}}}\n"
            f"spec: {{address: {address}{spec}}}\n{status}")


OF_VMS = "annotations: {istio.io/autoRegistrationGroup: vms}"
TOLD = "labels: {app: vm}, annotations: {proxy.istio.io/health-checks-enabled: 'true'}"
GROUP = ("metadata: {labels: {app: vm}}, template: {ports: {http: 8080}}, "
         "probe: {periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 1, httpGet: {path: /healthz, port: 8080, httpHeaders: [{name: Host, value: probe.test}]}}")


def test_workload_entries_have_their_groups_template_and_probe():
    config = "".join((
        support.gateway(support.HTTP_80), virtual_service("vm", f"[{HOST}]", ["retries: {attempts: 0}, route: [{destination: {host: vm.test, port: {number: 80}}}]"]),
        resource("ServiceEntry", "vm", "hosts: [vm.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: vm}}"),
        resource("WorkloadGroup", "vms", GROUP), workload("a", A, metadata=OF_VMS), workload("b", B, metadata=OF_VMS),
        workload("raw", RAW, ", ports: {http: 8080}", TOLD, "status: {conditions: [{type: Healthy, status: 'False'}]}\n"), support.mesh_config()))
    with own_lab("group", config) as lab:
        origins = {A: support.Origin(A, "a"), B: support.Origin(B, "b"), RAW: support.Origin(RAW, "raw")}
        try:
            only("a", "b")
            wait_for(lambda: probes(origins[A]), 5, "the workload was never asked for /healthz")
            origins[B].status = 399  # still well (WG-2)
            wait_for(lambda: probes(origins[B]), 5, "B was not asked")
            check(who(n=10) == {"a", 399}, f"{who(n=10)}")
            origins[B].status = 400
            only("a")
            origins[B].calm()
            only("a", "b")
            check(not probes(origins[RAW]), "a workload of no group was asked")
            file = os.path.join(lab, "config", "all.yaml")
            support.replace(file, config.replace("status: 'False'", "status: 'True'"))
            only("a", "b", "raw")
        finally:
            for origin in origins.values():
                origin.kill()
