#!/usr/bin/env python3
"""tlsfuzzer's conversations against the gateway, and the same ones against HAProxy beside it. Root; brings its own lab.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/tlsfuzzer.py --checkout DIR --list FILE [--seed N] [--draw N] [--only REGEX] [--out DIR] [--no-peer]

--checkout: github.com/tlsfuzzer/tlsfuzzer; tlslite-ng must be installed. --list: lines of mode (plain, mtls), script and its arguments, tabs between; files
that these name are in the folder where the certificates are made (client.key, client.pem, client-rsa.key, client-rsa.pem).
Many scripts draw their conversations at random (-n). Here the draw is seeded, so that both servers, and two runs, get the same; --draw 0 takes them all.
What a script says goes to --out (default: a folder in /tmp that is told). Exit status 1 when HAProxy passes a conversation that we do not."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

from foilrun import lab, ui  # noqa: E402
from support import GATEWAY, wait_for  # noqa: E402

SUITES = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA",
          "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES128-SHA"]
SEEDED = "import random, runpy, sys; random.seed(int(sys.argv[1])); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: main, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 443, name: web, protocol: HTTPS}}, hosts: ["*"], tls: {{mode: SIMPLE, credentialName: web, cipherSuites: [{suites}]}}}}
  - {{port: {{number: 8443, name: mutual, protocol: HTTPS}}, hosts: ["*"], tls: {{mode: OPTIONAL_MUTUAL, credentialName: web, cipherSuites: [{suites}]}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: app}}
spec: {{hosts: ["*"], gateways: [istio-system/main], http: [{{directResponse: {{status: 200, body: {{string: "hello"}}}}}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: web, namespace: istio-system}}
stringData:
  tls.crt: |
{cert}  tls.key: |
{key}  ca.crt: |
{ca}"""
HAPROXY = """
global
  maxconn 1000
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout client 15s
  timeout server 15s
  timeout connect 5s
frontend f
  bind 127.0.0.1:443 ssl crt {0}/server-all.pem
  bind 127.0.0.1:8443 ssl crt {0}/server-all.pem ca-file {0}/ca.pem verify optional
  http-request return status 200 content-type text/plain string hello
"""


def make_certificates(folder):
    def new(name, kind, issuer="ca"):
        key = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        words = ["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30", "-subj", f"/CN={name}"]
        if name != issuer:
            words += ["-addext", f"subjectAltName=DNS:{name}.test", "-addext", "basicConstraints=critical,CA:FALSE", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)

    for name, kind in (("ca", "rsa"), ("server", "rsa"), ("client-rsa", "rsa"), ("client", "ec")):
        new(name, kind)
    with open(f"{folder}/server-all.pem", "w") as f:
        f.write(text_of(f"{folder}/server.pem") + text_of(f"{folder}/server.key"))


def text_of(path):
    with open(path) as f:
        return f.read()


def write_config(folder):
    def inset(name):
        return "".join("    " + line for line in text_of(f"{folder}/{name}").splitlines(True))

    os.mkdir(f"{folder}/config")
    with open(f"{folder}/config/10.yaml", "w") as f:
        f.write(CONFIG.format(suites=", ".join(SUITES), cert=inset("server.pem"), key=inset("server.key"), ca=inset("ca.pem")))
    with open(f"{folder}/haproxy.cfg", "w") as f:
        f.write(HAPROXY.format(folder))


def scripts_of(path, only, draw):
    for line in text_of(path).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        mode, script, *words = line.split("\t")
        words = words[0].split() if words else []
        if draw is not None and "-n" in words:
            words[words.index("-n") + 1] = str(draw)
        if re.search(only, script):
            yield mode, script, words


def converse(o, server, host, mode, script, words):
    """(what there was, what failed), as the script counts and names them; a script that came to no end failed as a whole."""
    log = f"{o.out}/{server}-{script}.log"
    command = ["ip", "netns", "exec", lab.NAMESPACES["client"], sys.executable, "-c", SEEDED, str(o.seed), f"{o.checkout}/scripts/{script}",
               "-h", host, "-p", "8443" if mode == "mtls" else "443", *words]
    with open(log, "w") as f:
        try:
            subprocess.run(command, cwd=o.folder, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, timeout=o.limit,
                           env=dict(os.environ, PYTHONPATH=os.pathsep.join([o.checkout, os.environ.get("PYTHONPATH", "")])))
        except subprocess.TimeoutExpired:
            pass
    text = text_of(log)
    total = re.search(r"^TOTAL: (\d+)", text, re.M)
    if not total:
        return 0, {"(no end)"}
    return int(total[1]), set(re.findall(r"^\t'(.*)'$", text.partition("\nFAILED:")[2], re.M))


def start_peer(folder):
    peer = subprocess.Popen(["ip", "netns", "exec", lab.NAMESPACES["client"], "haproxy", "-db", "-f", f"{folder}/haproxy.cfg"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ask = ["ip", "netns", "exec", lab.NAMESPACES["client"], "openssl", "s_client", "-connect", "127.0.0.1:443"]
    wait_for(lambda: subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0, 10, "HAProxy does not answer")
    return peer


def run(o, servers):
    sums, worse = dict.fromkeys(servers, 0), []
    all_of = 0
    for mode, script, words in scripts_of(o.list, o.only, o.draw):
        began, failed, counts = time.monotonic(), {}, {}
        for server, host in servers.items():
            counts[server], failed[server] = converse(o, server, host, mode, script, words)
            sums[server] += counts[server] - len(failed[server])
        all_of += counts["ours"]
        ours_alone = failed["ours"] - failed["haproxy"] if "haproxy" in servers else set()
        worse += [(script, name) for name in sorted(ours_alone)]
        print(f"{script:60} " + "  ".join(f"{s} {counts[s] - len(failed[s])}/{counts[s]}" for s in servers) + f"  {time.monotonic() - began:.0f} s", flush=True)
        for name in sorted(failed["ours"]):
            print(f"    {'ours alone' if name in ours_alone else 'ours'}: {name}")
        for name in sorted(failed.get("haproxy", set()) - failed["ours"]):
            print(f"    haproxy alone: {name}")
    print(f"seed {o.seed}: " + ", ".join(f"{s} {n}" for s, n in sums.items()) + f" of {all_of}; HAProxy passes and we do not: {len(worse)}", flush=True)
    return worse


def main(words):
    p = argparse.ArgumentParser()
    p.add_argument("--checkout", required=True)
    p.add_argument("--list", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--draw", type=int)
    p.add_argument("--only", default=".")
    p.add_argument("--out")
    p.add_argument("--no-peer", action="store_true")
    p.add_argument("--limit", type=int, default=300, help="seconds a script")
    o = p.parse_args(words)
    o.out = o.out or tempfile.mkdtemp(prefix="foil-tlsfuzzer-")
    os.makedirs(o.out, exist_ok=True)
    o.folder = tempfile.mkdtemp(prefix="foil-tlsfuzzer-pki-")
    peer = None
    try:
        make_certificates(o.folder)
        write_config(o.folder)
        if lab.up(f"{o.folder}/config", lab.DEFAULT_NODE):
            raise ui.Failed("the lab did not come up")
        if not o.no_peer:
            peer = start_peer(o.folder)
        print(f"logs: {o.out}", flush=True)
        return 1 if run(o, {"ours": GATEWAY} if o.no_peer else {"ours": GATEWAY, "haproxy": "127.0.0.1"}) else 0
    finally:
        if peer:
            peer.terminate()
            peer.wait()
        lab.down(keep_quiet=True)
        shutil.rmtree(o.folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ui.Failed as e:
        sys.exit(str(e))
