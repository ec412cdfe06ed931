"""Kubernetes' Ingress in the lab: curl against origins, over HTTP and TLS, through rules of several Ingresses; a class that changes and a file that breaks while it
runs; what foilctl says of it. What a real Envoy did with the like is tests/recorded/ingress*.yaml."""
import contextlib
import os
import subprocess
import tempfile

import support
import told
from foilrun import lab
from resources import own_lab, service
from support import GATEWAY, check, wait_for

CLASS = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: edge}\nspec: {controller: istio.io/ingress-controller}\n"
SHOP, BOOKS = "198.19.0.50", "198.19.0.51"


def path(kind, where, name, port="number: 8080"):
    return f"{{pathType: {kind}, path: '{where}', backend: {{service: {{name: {name}, port: {{{port}}}}}}}}}"


def ingress(name, *rules, tls="", annotation="", created="2026-01-01", more="ingressClassName: edge"):
    """rules: (host or None, path...)."""
    text = (f"---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: app, creationTimestamp: '{created}T00:00:00Z'"
            + (f", annotations: {{kubernetes.io/ingress.class: {annotation}}}" if annotation else "") + "}\nspec:\n")
    text += (f"  tls: [{tls}]\n" if tls else "") + (f"  {more}\n" if more else "") + "  rules:\n"
    for host, *paths in rules:
        text += "  - {" + (f"host: '{host}', " if host else "") + "http: {paths: [" + ", ".join(paths) + "]}}\n"
    return text


RULES = ingress(
    "web",
    ("web.ingress.test", path("Prefix", "/", "shop"), path("Prefix", "/books", "books"), path("Exact", "/books/one", "shop"),
     path("ImplementationSpecific", "/free", "books"), path("ImplementationSpecific", "/star/*", "books"), path("Prefix", "/named", "books", "name: http")),
    ("*.wild.test", path("Prefix", "/", "books")), (None, path("Prefix", "/any", "shop")), tls="{hosts: [web.ingress.test], secretName: web}"
) + ingress("young", ("web.ingress.test", path("Prefix", "/books", "shop"), path("Prefix", "/young", "books")), created="2026-02-02")
SERVICES = support.mesh_config() + CLASS + service("shop", "clusterIP: 198.18.10.61, selector: {app: shop}", SHOP) + service(
    "books", "clusterIP: 198.18.10.62, selector: {app: books}", BOOKS)


@contextlib.contextmanager
def served(text):
    """The folder of a lab that has this, with both origins."""
    origins = []
    try:
        with own_lab("ingress", SERVICES + text) as folder:
            origins = [support.Origin(SHOP, "shop"), support.Origin(BOOKS, "books")]
            yield folder
    finally:
        for origin in origins:
            origin.kill()


def curl(url, *words, host=None):
    """(status, first word of the body): the origin's name, where one answered."""
    done = support.curl("-w", "\n%{http_code}", *(("-H", f"Host: {host}") if host else ()), *words, url)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), (body.split() or [""])[0]


def foilctl(*words):
    done = subprocess.run([lab.read_state()["programs"]["foilctl"], *words], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


def certificate(folder):
    """A Secret in istio-system, and the certificate's file for curl."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "crt", "-days", "2", "-subj",
                    "/CN=web.ingress.test", "-addext", "subjectAltName=DNS:web.ingress.test"], check=True, capture_output=True, cwd=folder)
    text = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: istio-system}\ntype: kubernetes.io/tls\nstringData:\n"
    for key, file in (("tls.crt", "crt"), ("tls.key", "key")):
        with open(os.path.join(folder, file)) as f:
            text += f"  {key}: |\n" + "".join("    " + line for line in f)
    return text, os.path.join(folder, "crt")


def test_requests_take_the_path_of_their_host_over_http_and_tls():
    wanted = [("web.ingress.test", "/", "shop"), ("web.ingress.test", "/books", "books"), ("web.ingress.test", "/books/two?x=1", "books"),
              ("web.ingress.test", "/books/one", "shop"), ("web.ingress.test", "/books/one/", "books"), ("web.ingress.test", "/bookshop", "shop"),
              ("web.ingress.test", "/free", "books"), ("web.ingress.test", "/free/x", "shop"), ("web.ingress.test", "/star/x", "books"),
              ("web.ingress.test", "/starx", "shop"), ("web.ingress.test", "/named/x", "books"), ("web.ingress.test", "/young", "books"),
              ("a.wild.test", "/", "books"), ("a.b.wild.test", "/", "books"), ("wild.test", "/", None), ("nobody.test", "/any/x", "shop"), ("nobody.test", "/", None)]
    with tempfile.TemporaryDirectory(prefix="foil-ingress-keys-") as keys:
        secret, crt = certificate(keys)
        with served(RULES + secret):
            for host, where, origin in wanted:
                found = curl(f"http://{GATEWAY}{where}", host=host)
                check(found == (200, origin) if origin else found[0] == 404, f"{host}{where}: {found}, not {origin}")
            secure = ("--cacert", crt, "--resolve", f"web.ingress.test:443:{GATEWAY}")
            check(curl("https://web.ingress.test/books/two", *secure) == (200, "books"), "over TLS")
            check(curl("https://web.ingress.test/young", *secure) == (200, "books"), "the younger one's rule over TLS of the oldest")


def test_classes_change_while_it_runs_and_a_broken_file_keeps_what_was_good():
    one = ("one.ingress.test", path("Prefix", "/", "shop"))

    def status():
        return curl(f"http://{GATEWAY}/", host="one.ingress.test")

    with served(RULES + ingress("one", one, annotation="nginx", more="")) as folder:
        def write(text):
            support.replace(os.path.join(folder, "config", "all.yaml"), SERVICES + RULES + text)

        check(status()[0] == 404, "another controller's is served")
        write(ingress("one", one, annotation="istio", more=""))
        wait_for(lambda: status() == (200, "shop"), 10, lambda: f"not taken: {status()}")
        write(ingress("one", (one[0], path("Prefix", "/", "books", "number: 0")), annotation="istio", more=""))
        wait_for(lambda: "stays in use" in foilctl("diagnostics")[1], 10, lambda: "not refused: " + foilctl("diagnostics")[1])
        check(status() == (200, "shop"), f"its last good version is not in use: {status()}")
        write(ingress("one", (one[0], path("Prefix", "/", "books")), annotation="istio", more=""))
        wait_for(lambda: status() == (200, "books"), 10, lambda: f"not taken: {status()}")


def test_foilctl_names_the_ingress_and_its_line():
    with served(RULES) as folder:
        config = os.path.join(folder, "config")
        status, said = foilctl("explain", "--config", config, "http://web.ingress.test/books/one")
        check(status == 0 and "taken: route (without a name) (Ingress/app/web at " in said and "shop.app.svc.cluster.local" in said, said)
        status, said = foilctl("validate", config)
        check(status == 0 and 'spec.tls[0].secretName: the Secret "web" is not there' in said, said)
        status, said = told.validate(SERVICES + ingress("bad", ("a.test", "{path: /, pathType: Prefix, backend: {resource: {kind: Bucket, name: b}}}")))
        check(status == 1 and "spec.rules[0].http.paths[0].backend.resource: not supported: a backend is a Service here" in said, said)
