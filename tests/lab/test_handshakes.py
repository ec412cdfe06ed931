"""A flood of handshakes in the lab: limits by network and in all, which others and open connections do not feel; and handshakes on a crypto thread."""
import atexit
import contextlib
import http.client
import io
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile

import support
from foilrun import lab
from support import GATEWAY, check, wait_for

IN_ALL, OF_NETWORK, FLOOD = 24, 16, 40
NODE = f"crypto_workers: 1\ntls: {{handshakes: {IN_ALL}, handshakes_per_network: {OF_NETWORK}}}\n"
IDLE = "pause"
STATE = {}
CONFIG = support.gateway(
    '{port: {number: 443, name: web, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: web}}') + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: app}
spec: {hosts: ["*"], gateways: [istio-system/main], http: [{directResponse: {status: 200, body: {string: "hello"}}}]}
"""


def indented(path):
    with open(path) as f:
        return "".join("    " + line for line in f)


def setup():
    if STATE:
        return
    folder = tempfile.mkdtemp(prefix="foil-handshakes-")
    atexit.register(shutil.rmtree, folder, True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "web.key", "-out", "web.crt", "-subj",
                    "/CN=web.test", "-addext", "subjectAltName=DNS:web.test"], check=True, capture_output=True, cwd=folder)
    os.mkdir(f"{folder}/config")
    with open(f"{folder}/config/10.yaml", "w") as f:
        f.write(CONFIG + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: istio-system}\nstringData:\n  tls.crt: |\n" +
                indented(f"{folder}/web.crt") + "  tls.key: |\n" + indented(f"{folder}/web.key"))
    with open(lab.DEFAULT_NODE) as f, open(f"{folder}/node.yaml", "w") as to:
        to.write(re.sub(r"^idle:.*", f"idle: {IDLE}", re.sub(r"^crypto_workers:.*\n", "", f.read(), flags=re.M), flags=re.M) + NODE)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = lab.up(f"{folder}/config", f"{folder}/node.yaml")
    check(status == 0, said.getvalue())
    STATE["folder"] = folder
    STATE["tls"] = ssl.create_default_context(cafile=f"{folder}/web.crt")


def secure(source=None):
    return STATE["tls"].wrap_socket(support.connect(port=443, timeout_s=30, source=source), server_hostname="web.test")


def ask(s):
    c = http.client.HTTPConnection("web.test", timeout=30)
    c.sock, c.auto_open = s, 0
    c.request("GET", "/", headers={"Host": "web.test"})
    answer = c.getresponse()
    answer.read()
    return answer.status


def metric(name, label=""):
    found = re.findall(rf"^{name}((?:{{[^}}]*}})?) (\S+)$", lab.get("/metrics", 15090)[1], re.M)
    return sum(int(float(v)) for labels, v in found if label in labels)


def refused(network):
    return metric("foil_tls_resets_total", f'reason="handshakes_{"of_prefix" if network else "exhausted"}"')


def half_hello(source=None):
    s = support.connect(port=443, source=source)
    s.sendall(bytes.fromhex("16030102000100 01fc0303"))  # a ClientHello of 512 bytes whose rest never comes
    return s


def is_reset(s):
    s.settimeout(0.2)
    try:
        return s.recv(1) == b""
    except socket.timeout:
        return False
    except OSError:
        return True


def test_handshakes_are_done_on_a_crypto_thread():
    setup()
    for _ in range(5):
        s = secure()
        check(ask(s) == 200, "no answer")
        s.close()
    wait_for(lambda: metric("foil_tls_steps_handed_off_total") >= 10, 10, "no step was handed off")


def test_a_flood_from_one_network_leaves_the_others_their_places():
    setup()
    kept = secure()
    flood = [half_hello() for _ in range(FLOOD)]
    try:
        wait_for(lambda: refused(True) >= FLOOD - OF_NETWORK, 10, lambda: f"{refused(True)} of {FLOOD - OF_NETWORK} refused")
        ended = sum(is_reset(s) for s in flood)
        check(ended == FLOOD - OF_NETWORK, f"{ended} of {FLOOD} half hellos were reset, not {FLOOD - OF_NETWORK}")
        check(ask(kept) == 200, "an open connection of the same network")
        other = secure("10.1.1.1")
        check(ask(other) == 200, "a handshake of another network")
        more = [half_hello("10.1.1.1") for _ in range(IN_ALL - OF_NETWORK + 3)]
        wait_for(lambda: refused(False) >= 3, 10, lambda: f"{refused(False)} refused by the limit in all")
        check(ask(kept) == 200 and ask(other) == 200, "open connections while all places are taken")
        flood += more
    finally:
        for s in flood:
            s.close()
    wait_for(lambda: metric("foil_tls_handshake_places") == 0 and metric("foil_mesh_hellos") == 0, 10, "places are not given back")
    check(ask(secure()) == 200, "a handshake after the flood")
