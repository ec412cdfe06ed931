"""TLS in the lab: clients and servers that are not ours (curl, OpenSSL's s_client and s_server, GnuTLS, Python, Go) over versions, suites, groups, client
certificates and resumption; bodies both ways; certificates that rotate under a connection; origins over TLS, good and bad."""
import atexit
import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import threading

import support
from foilrun import lab, ui
from support import GATEWAY, Skip, check, run_in, wait_for
from told import Grew

HOST, MUTUAL, OLD, LAX, LAX_MUTUAL = "web.tls.test", "mutual.tls.test", "old.tls.test", "lax.tls.test", "laxmutual.tls.test"
STATE = {}

GATEWAYS = support.gateway(
    support.HTTP_80,
    '{port: {number: 443, name: web, protocol: HTTPS}, hosts: [web.tls.test], tls: {mode: SIMPLE, credentialNames: [web-ec, web-rsa]}}',
    '{port: {number: 443, name: mutual, protocol: HTTPS}, hosts: [mutual.tls.test], tls: {mode: MUTUAL, credentialName: web-ec}}',
    '{port: {number: 443, name: lax, protocol: HTTPS}, hosts: [lax.tls.test], tls: {mode: OPTIONAL_MUTUAL, credentialName: web-ec, '
    'insecureSkipVerify: true}}',
    '{port: {number: 443, name: laxmutual, protocol: HTTPS}, hosts: [laxmutual.tls.test], tls: {mode: MUTUAL, credentialName: web-ec, '
    'insecureSkipVerify: true}}',
    '{port: {number: 443, name: old, protocol: HTTPS}, hosts: [old.tls.test], tls: {mode: SIMPLE, credentialName: web-rsa, maxProtocolVersion: TLSV1_2}}') + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: app}
spec:
  hosts: ["*.tls.test"]
  gateways: [istio-system/main]
  http: [{route: [{destination: {host: plain.test, port: {number: 8080}}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: app}
spec:
  hosts: [plain.test]
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 198.19.0.10}]
"""
UPSTREAM = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: app}
spec:
  hosts: [NAME.up.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: PORT}]
  endpoints: [{address: 198.19.0.11}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: app}
spec:
  hosts: [NAME.up.test]
  gateways: [istio-system/main]
  http: [{route: [{destination: {host: NAME.up.test, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: app}
spec:
  host: NAME.up.test
  trafficPolicy: {tls: {TLS}}
"""
UPSTREAMS = {  # name: (tls, served by)
    "simple": ("mode: SIMPLE, credentialName: roots", "openssl13"),
    "simple12": ("mode: SIMPLE, credentialName: roots, sni: simple12.up.test, subjectAltNames: [simple12.up.test]", "openssl12"),
    "gnutls": ("mode: SIMPLE, credentialName: roots", "gnutls"),
    "wrongname": ("mode: SIMPLE, credentialName: roots, sni: simple.up.test, subjectAltNames: [other.test]", "openssl13"),
    "noca": ("mode: SIMPLE, credentialName: strangers", "openssl13"),
    "skip": ("mode: SIMPLE, insecureSkipVerify: true", "openssl13"),
    "mutual": ("mode: MUTUAL, credentialName: client, sni: mutual.up.test, subjectAltNames: [mutual.up.test]", "python"),
    "nocert": ("mode: SIMPLE, credentialName: roots, sni: mutual.up.test", "python"),
    "missing": ("mode: SIMPLE, credentialName: not-there", "openssl13"),
}
PORTS = {"openssl13": 9443, "openssl12": 9444, "gnutls": 9445, "python": 9446}


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=STATE["certs"])


def certificate(name, subject, sans, key, issuer=None):
    new = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words = ["req", "-x509", "-newkey", *new, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "30", "-subj", f"/CN={subject}"]
    if sans:
        words += ["-addext", "subjectAltName=" + ",".join(sans)]
    if issuer:
        words += ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl(*words)


def text(name):
    with open(f"{STATE['certs']}/{name}") as f:
        return f.read()


def secret(name, **files):
    out = f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData:\n"
    for key, file in files.items():
        out += f"  {key.replace('_', '.')}: |\n" + "".join("    " + line + "\n" for line in text(file).strip().splitlines())
    return out


def write(name, data):
    with open(f"{STATE['config']}/.{name}", "w") as f:
        f.write(data)
    os.rename(f"{STATE['config']}/.{name}", f"{STATE['config']}/{name}")


def write_secrets(web="web-ec"):
    write("20-secrets.yaml", secret("web-ec", tls_crt=f"{web}.crt", tls_key=f"{web}.key", ca_crt="ca.crt") + secret("roots", ca_crt="ca.crt") +
          secret("web-rsa", tls_crt="web-rsa.crt", tls_key="web-rsa.key") + secret("strangers", ca_crt="other.crt") +
          secret("client", tls_crt="client.crt", tls_key="client.key", ca_crt="ca.crt"))


def set_up():
    """Certificates, configuration, lab and origins, once for the file."""
    if STATE:
        return
    folder = tempfile.mkdtemp(prefix="foil-lab-tls-")
    STATE.update(certs=folder + "/certs", config=folder + "/config")
    os.mkdir(STATE["certs"])
    os.mkdir(STATE["config"])
    names = [f"DNS:{n}" for n in (HOST, MUTUAL, OLD, LAX, LAX_MUTUAL)] + [f"DNS:{n}.up.test" for n in UPSTREAMS]
    certificate("ca", "lab ca", None, "ec")
    certificate("other", "other ca", None, "ec")
    certificate("web-ec", "web ec", names, "ec", "ca")
    certificate("web-ec2", "web ec two", names, "ec", "ca")
    certificate("web-rsa", "web rsa", names, "rsa", "ca")
    certificate("client", "client", ["URI:spiffe://lab/ns/a/sa/b", "DNS:client.test"], "ec", "ca")
    certificate("stranger", "stranger", None, "ec", "other")
    openssl("req", "-new", "-key", "client.key", "-subj", "/CN=expired", "-out", "expired.csr")
    openssl("x509", "-req", "-in", "expired.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "0", "-out", "expired.crt")
    shutil.copy(f"{STATE['certs']}/client.key", f"{STATE['certs']}/expired.key")
    write_secrets()
    write("10-mesh.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
          "    accessLogFile: /dev/stdout\n")
    write("30-tls.yaml", GATEWAYS + "".join(UPSTREAM.replace("NAME", n).replace("TLS", t).replace("PORT", str(PORTS[by]))
                                             for n, (t, by) in UPSTREAMS.items()))
    check(lab.up(STATE["config"], lab.DEFAULT_NODE) == 0, "the lab does not come up")
    STATE["origin"] = support.Origin("198.19.0.10", "plain")
    start_servers()


def start_servers():
    c = STATE["certs"]
    www = ["openssl", "s_server", "-www", "-quiet", "-cert", f"{c}/web-ec.crt", "-key", f"{c}/web-ec.key"]
    STATE["servers"] = [
        support.start_in("backends", *www, "-accept", f"198.19.0.11:{PORTS['openssl13']}"),
        support.start_in("backends", *www, "-accept", f"198.19.0.11:{PORTS['openssl12']}", "-no_tls1_3"),
    ]
    if shutil.which("gnutls-serv"):
        STATE["servers"].append(support.start_in("backends", "gnutls-serv", "--http", "--quiet", "--port", str(PORTS["gnutls"]), "--x509certfile",
                                                 f"{c}/web-rsa.crt", "--x509keyfile", f"{c}/web-rsa.key"))
    for server in STATE["servers"]:
        atexit.register(ui.kill_group, server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{c}/web-ec.crt", f"{c}/web-ec.key")
    context.load_verify_locations(f"{c}/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = support.socket_in("backends")
    listener.bind(("198.19.0.11", PORTS["python"]))
    listener.listen(64)
    threading.Thread(target=python_server, args=(listener, context), daemon=True).start()
    wait_for(lambda: run_in("backends", "sh", "-c", f"ss -ltn | grep -c :{PORTS['openssl12']}").returncode == 0, 10, "s_server does not listen")


def python_server(listener, context):
    while True:
        raw, _ = listener.accept()
        try:
            s = context.wrap_socket(raw, server_side=True)
            s.recv(65536)
            body = str(s.getpeercert()["subjectAltName"]).encode()
            s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            s.unwrap()
        except (OSError, ValueError):
            pass
        raw.close()


def curl(host, *words, path="/hello"):
    return support.curl("--resolve", f"{host}:443:{GATEWAY}", "--cacert", f"{STATE['certs']}/ca.crt", *words, f"https://{host}{path}")


def client_certificate(name="client"):
    return "--cert", f"{STATE['certs']}/{name}.crt", "--key", f"{STATE['certs']}/{name}.key"


def s_client(host, *words, data="GET /hello HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n"):
    return subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "openssl", "s_client", "-connect", f"{GATEWAY}:443", "-servername", host,
                           "-CAfile", f"{STATE['certs']}/ca.crt", "-verify_return_error", "-ign_eof", *words], input=data.replace("HOST", host),
                          capture_output=True, text=True, timeout=20)


def test_curl_over_versions_and_protocols():
    set_up()
    for version in ("1.2", "1.3"):
        for protocol in ("--http1.1", "--http2"):
            done = curl(HOST, "-i", f"--tlsv{version}", "--tls-max", version, protocol)
            check(done.returncode == 0 and " 200" in done.stdout.splitlines()[0] and "plain /hello" in done.stdout, f"{version} {protocol}: {done}")
    seen = STATE["origin"].seen[-1]["headers"]
    check(seen["x-forwarded-proto"] == "https", str(seen))
    done = curl(OLD, "--tlsv1.3")
    check(done.returncode == 35, f"TLS 1.3 at a server that has 1.2 at most: {done}")
    check(curl(OLD, "-f").returncode == 0, "TLS 1.2 at most")


def test_s_client_over_suites_and_groups():
    set_up()
    for suite in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
                  "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"):
        done = s_client(HOST, "-tls1_2", "-cipher", suite)
        check(suite in done.stdout and "plain /hello" in done.stdout, f"{suite}: {done.stdout[-800:]} {done.stderr[-300:]}")
    for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
        for group in ("X25519", "P-256", "P-384"):
            done = s_client(HOST, "-tls1_3", "-ciphersuites", suite, "-groups", group)
            check(suite in done.stdout and "plain /hello" in done.stdout, f"{suite} {group}: {done.stdout[-800:]}")
    for sigalgs, kind in (("ECDSA+SHA256", "EC"), ("rsa_pss_rsae_sha256", "RSA")):
        done = s_client(HOST, "-sigalgs", sigalgs)
        check(f"Peer signature type: {'ECDSA' if kind == 'EC' else 'RSA-PSS'}" in done.stdout, done.stdout[-1500:])
    check("plain" not in s_client(HOST, "-tls1_2", "-cipher", "AES128-SHA").stdout, "a suite that is not offered")
    check("plain" not in s_client("nobody.tls.test").stdout, "a name that no chain has")


def test_sessions_are_resumed():
    set_up()
    for version in ("-tls1_2", "-tls1_3"):
        with tempfile.NamedTemporaryFile() as f:
            first = s_client(HOST, version, "-sess_out", f.name)
            again = s_client(HOST, version, "-sess_in", f.name)
            check("New, TLS" in first.stdout and "Reused, TLS" in again.stdout and "plain /hello" in again.stdout, f"{version}: {again.stdout[-1200:]}")
            other = s_client(MUTUAL, version, "-sess_in", f.name)
            check("plain /hello" not in other.stdout, "a session of one server let somebody in at another that asks for a certificate")


def test_client_certificates():
    set_up()
    done = curl(MUTUAL, "-f", *client_certificate())
    check(done.returncode == 0, str(done))
    xfcc = STATE["origin"].seen[-1]["headers"]["x-forwarded-client-cert"]
    check('Subject="CN=client"' in xfcc and "URI=spiffe://lab/ns/a/sa/b;DNS=client.test" in xfcc, xfcc)
    for version in ("1.2", "1.3"):
        for words in ((), client_certificate("stranger")):
            done = curl(MUTUAL, "-f", f"--tlsv{version}", "--tls-max", version, *words)
            check(done.returncode in (35, 55, 56), f"{version} {words}: {done}")
    done = s_client(MUTUAL, "-cert", f"{STATE['certs']}/client.crt", "-key", f"{STATE['certs']}/client.key")
    check("plain /hello" in done.stdout, done.stdout[-500:])


def test_untrusted_client_certificates_are_taken_where_the_gateway_says_so():
    set_up()
    for name, subject in (("client", "CN=client"), ("stranger", "CN=stranger"), ("expired", "CN=expired")):
        for host in (LAX, LAX_MUTUAL):
            for version in ("1.2", "1.3"):
                with Grew("foil_tls_untrusted_clients_total", name != "client"):
                    done = curl(host, "-f", f"--tlsv{version}", "--tls-max", version, *client_certificate(name))
                check(done.returncode == 0, f"{name} at {host}, {version}: {done}")
                xfcc = STATE["origin"].seen[-1]["headers"]["x-forwarded-client-cert"]
                check(f'Subject="{subject}"' in xfcc, f"{name} at {host}: {xfcc}")
    check(curl(LAX, "-f").returncode == 0 and "x-forwarded-client-cert" not in STATE["origin"].seen[-1]["headers"], "none at all")
    check(curl(LAX_MUTUAL, "-f").returncode != 0, "MUTUAL wants a certificate, whichever")
    check(curl(MUTUAL, "-f", *client_certificate("expired")).returncode != 0, "an expired one where it is verified")


def spoken(words):
    """A standard input that says this and stays open for a while: gnutls-cli closes its side with it."""
    return subprocess.Popen(["sh", "-c", f"printf '{words}'; sleep 1"], stdout=subprocess.PIPE).stdout


def test_gnutls():
    set_up()
    if not shutil.which("gnutls-cli"):
        raise Skip("gnutls-cli is not there")
    for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-GROUP-ALL:+GROUP-SECP256R1",
                     "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"):
        for host, words in ((HOST, []), (MUTUAL, ["--x509certfile", f"{STATE['certs']}/client.crt", "--x509keyfile", f"{STATE['certs']}/client.key"])):
            done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "gnutls-cli", "--x509cafile", f"{STATE['certs']}/ca.crt", "--priority",
                                   priority, "--sni-hostname", host, "--verify-hostname", host, "-p", "443", *words, GATEWAY],
                                  stdin=spoken(f"GET /hello HTTP/1.1\\r\\nhost: {host}\\r\\nconnection: close\\r\\n\\r\\n"), capture_output=True, text=True,
                                  timeout=20)
            check("plain /hello" in done.stdout, f"{priority} {host}: {done.stdout[-1500:]} {done.stderr[-300:]}")
    done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "gnutls-cli", "--x509cafile", f"{STATE['certs']}/ca.crt", "--sni-hostname", HOST,
                           "--verify-hostname", HOST, "-p", "443", "--resume", "--waitresumption", GATEWAY],
                          stdin=spoken(""), capture_output=True, text=True, timeout=30)
    check("This is a resumed session" in done.stdout, done.stdout[-1500:])


GO = """package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "io"; "net"; "net/http"; "os"; "context")
func main() {
	pem, _ := os.ReadFile(os.Args[1] + "/ca.crt")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	cert, _ := tls.LoadX509KeyPair(os.Args[1]+"/client.crt", os.Args[1]+"/client.key")
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, h2 := range []bool{false, true} {
			t := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: v, MaxVersion: v, Certificates: []tls.Certificate{cert},
				ClientSessionCache: tls.NewLRUClientSessionCache(8)},
				DialContext: func(c context.Context, n, a string) (net.Conn, error) { return (&net.Dialer{}).DialContext(c, n, os.Args[2]+":443") }}
			if !h2 { t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} }
			for i := 0; i < 3; i++ {
				r, err := (&http.Client{Transport: t}).Get("https://mutual.tls.test/go")
				if err != nil { fmt.Println("failed", err); os.Exit(1) }
				b, _ := io.ReadAll(r.Body)
				r.Body.Close()
				fmt.Println(r.Proto, r.StatusCode, r.TLS.DidResume, len(b))
				t.CloseIdleConnections()
			}
		}
	}
}
"""


def test_go():
    set_up()
    go = shutil.which("go")
    if not go:
        raise Skip("go is not there")
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/main.go", "w") as f:
            f.write(GO)
        built = subprocess.run([go, "build", "-o", d + "/main", d + "/main.go"], capture_output=True, text=True, timeout=300,
                               env={**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "CGO_ENABLED": "0"})
        check(built.returncode == 0, built.stderr)
        done = run_in("client", d + "/main", STATE["certs"], GATEWAY, timeout_s=60)
    lines = done.stdout.splitlines()
    check(done.returncode == 0 and len(lines) == 12, done.stdout + done.stderr)
    check(lines[0].startswith("HTTP/1.1 200 false") and lines[1].startswith("HTTP/1.1 200 true"), done.stdout)
    check(lines[9].startswith("HTTP/2.0 200 false") and lines[11].startswith("HTTP/2.0 200 true"), done.stdout)


def test_bodies_both_ways():
    set_up()
    n = 20 << 20
    want = support.sha256_of(support.body_of(n))
    with tempfile.NamedTemporaryFile() as f:
        for protocol in ("--http1.1", "--http2"):
            done = curl(HOST, "-f", protocol, "-o", f.name, path=f"/bytes/{n}")
            with open(f.name, "rb") as back:
                check(done.returncode == 0 and hashlib.sha256(back.read()).hexdigest() == want, f"{protocol}: {done}")
            done = curl(HOST, "-f", protocol, "--data-binary", "@" + f.name)
            check(want in done.stdout, f"up, {protocol}: {done}")


def test_a_new_certificate_serves_new_connections_and_old_ones_live():
    set_up()
    context = ssl.create_default_context(cafile=f"{STATE['certs']}/ca.crt")
    context.set_alpn_protocols(["http/1.1"])
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def dial():
        return context.wrap_socket(support.connect(GATEWAY, 443), server_hostname=HOST)

    def name(s):
        return dict(x[0] for x in s.getpeercert()["subject"])["commonName"]

    def ask(s):
        s.sendall(f"GET /alive HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer:
            more = s.recv(65536)
            if not more:
                break
            answer += more
        return answer

    old = dial()
    check(name(old) == "web ec" and b" 200 " in ask(old), "before")
    write_secrets("web-ec2")
    wait_for(lambda: name(dial()) == "web ec two", 10, "the new certificate does not come")
    answer = ask(old)
    check(b" 200 " in answer, f"the old connection: {answer}")
    write("20-secrets.yaml", text("../config/20-secrets.yaml").replace(text("web-ec2.key").strip().splitlines()[1], "A" * 64))
    support.time.sleep(2)
    check(b" 200 " in ask(old), "a key that cannot be read ended an old connection")
    check(name(dial()) == "web ec two", "a key that cannot be read took the last good one away")
    write_secrets()
    wait_for(lambda: name(dial()) == "web ec", 10, "the first certificate does not come back")
    old.close()


def upstream(name):
    log = support.Log()
    status, _, body = support.ask(f"{name}.up.test", "/")
    return status, body, log


@support.rows("DR-46 DR-49")
def test_origins_over_tls():
    set_up()
    for name in ("simple", "simple12", "gnutls", "skip"):
        if name == "gnutls" and not shutil.which("gnutls-serv"):
            continue
        status, body, _ = upstream(name)
        check(status == 200 and body, f"{name}: {status} {body[:200]}")
    status, body, _ = upstream("mutual")
    check(status == 200 and b"spiffe://lab/ns/a/sa/b" in body, f"mutual: {status} {body}")


@support.rows("DR-49 DR-50")
def test_origins_that_cannot_be_trusted_get_nothing():
    set_up()
    for name in ("wrongname", "noca", "missing"):
        status, _, log = upstream(name)
        check(status == 503, f"{name}: {status}")
        line = log.find(f"{name}.up.test", " 503 ")
        check(" UF" in line or ",UF" in line or " URX,UF" in line, line)
    status, _, _ = upstream("nocert")
    check(status == 503, f"nocert: {status}")
