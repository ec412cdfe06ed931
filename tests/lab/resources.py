"""Istio's and Kubernetes' resources as text, and a lab of one's own that has them: what several lab tests would each write again.

What is passed is YAML in its flow form, as in the resources themselves: policies and specs without their braces, hosts and rules with them."""
import contextlib
import os
import shutil
import tempfile

import run
import support
from foilrun import lab

GATEWAYS = "[istio-system/main]"
HTTP, TCP = "[{number: 8080, name: http, protocol: HTTP}]", "[{number: 8080, name: tcp, protocol: TCP}]"


def resource(kind, name, spec, namespace="app"):
    return f"---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"


def service(name, spec, *addresses):
    """A Service and, with addresses, its Endpoints at port 8080."""
    text = f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: app}}\nspec: {{{spec}, ports: [{{name: http, port: 8080}}]}}\n"
    if not addresses:
        return text
    ips = ", ".join(f"{{ip: {a}}}" for a in addresses)
    return text + (f"---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}, namespace: app}}\n"
                   f"subsets: [{{addresses: [{ips}], ports: [{{name: http, port: 8080}}]}}]\n")


def service_entry(name, *endpoints, hosts=None, ports=HTTP, resolution="STATIC", more=""):
    """Hosts [NAME.test] unless said; an endpoint is an address or a whole {address: …}."""
    text = ", ".join(e if e.startswith("{") else f"{{address: {e}}}" for e in endpoints)
    return resource("ServiceEntry", name, f"hosts: {hosts or f'[{name}.test]'}, resolution: {resolution}, ports: {ports}"
                    + (f", endpoints: [{text}]" if resolution not in ("NONE", "DYNAMIC_DNS") else "") + (f", {more}" if more else ""))


def destination_rule(name, host, policy, subsets="", namespace="app", more=""):
    return resource("DestinationRule", name, f"host: '{host}'" + (f", trafficPolicy: {{{policy}}}" if policy else "") + (f", subsets: [{subsets}]" if subsets else "")
                    + (f", {more}" if more else ""), namespace)


def virtual_service(name, hosts, rules, gateways=GATEWAYS, created="2026-01-01T00:00:00Z", kind="http"):
    """gateways None: those of the mesh."""
    return (f"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: app, creationTimestamp: \"{created}\"}}\nspec:\n"
            f"  hosts: {hosts}\n" + (f"  gateways: {gateways}\n" if gateways else "") + f"  {kind}:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules))


@contextlib.contextmanager
def own_lab(name, text, node=lambda text: text):
    """A lab with this configuration, and the default node file as node() changes it; the folder, whose config/all.yaml is the configuration."""
    folder = tempfile.mkdtemp(prefix=f"foil-{name}-")
    config, file = os.path.join(folder, "config"), os.path.join(folder, "node.yaml")
    os.mkdir(config)
    support.replace(os.path.join(config, "all.yaml"), text)
    with open(lab.DEFAULT_NODE) as f, open(file, "w") as out:
        out.write(node(f.read()))
    try:
        status, said = run.quietly_up(config, file)
        support.check(status == 0, said)
        yield folder
    finally:
        lab.down(keep_quiet=True)
        shutil.rmtree(folder, ignore_errors=True)


def two_workers(node):
    return node.replace("workers: {count: 1}", "workers: {count: 2}")
