#!/usr/bin/env python3
"""Every TLS client that this machine has against the gateway, in a grid of versions, suites, groups, client certificates and resumption, and servers of Go
and Java behind it. Root; brings its own lab with test_tls.py's configuration, whose tests are the short form of this.

    FOIL_NO_BUILD=1 FOIL_BUILD=release tests/lab/tls_matrix.py [NAME...]     # openssl curl gnutls python go java go-server java-server

A line a cell that fails, a line a client with its counts, exit status 1 when any failed."""
import http.client
import os
import shutil
import ssl
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.dirname(os.path.abspath(__file__))]

import support  # noqa: E402
import test_tls as base  # noqa: E402
from foilrun import lab, ui  # noqa: E402
from support import GATEWAY  # noqa: E402

SUITES = {"1.2": ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
                  "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"],
          "1.3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]}
GROUPS = ["X25519", "P-256", "P-384"]
GO = """
package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "net/http"; "os"; "io"; "net")
func main() {
	pem, _ := os.ReadFile(os.Args[2] + "/ca.crt"); pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem)
	cert, _ := tls.LoadX509KeyPair(os.Args[2]+"/client.crt", os.Args[2]+"/client.key")
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} { for _, g := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384} {
	for _, mutual := range []bool{false, true} { for _, h2 := range []bool{false, true} {
		host := "web.tls.test"; c := &tls.Config{RootCAs: pool, MinVersion: v, MaxVersion: v, CurvePreferences: []tls.CurveID{g}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		if v == tls.VersionTLS12 && g != tls.CurveP256 { c.CurvePreferences = append(c.CurvePreferences, tls.CurveP256) } // the certificate's own
		if mutual { host = "mutual.tls.test"; c.Certificates = []tls.Certificate{cert} }
		what := fmt.Sprintf("version=%x group=%v mutual=%v h2=%v", v, g, mutual, h2); resumed := false; failed := ""
		for i := 0; i < 2 && failed == ""; i++ {
			t := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: h2, Dial: func(n, a string) (net.Conn, error) { return net.Dial("tcp", os.Args[1]+":443") }}
			r, e := (&http.Client{Transport: t}).Get("https://" + host + "/hello")
			if e != nil { failed = e.Error(); break }
			io.Copy(io.Discard, r.Body); r.Body.Close()
			if r.StatusCode != 200 || (r.ProtoMajor == 2) != h2 { failed = fmt.Sprint(r.StatusCode, r.Proto) }
			resumed = r.TLS.DidResume; t.CloseIdleConnections()
		}
		if failed == "" && !resumed { failed = "not resumed" }
		if failed == "" { fmt.Println("ok", what) } else { fmt.Println("not ok", what, failed) }
	}}}}
}
"""
JAVA = """
import java.io.*; import java.net.*; import java.nio.file.*; import java.security.*; import java.security.cert.*; import java.security.spec.*; import java.util.*;
import javax.net.ssl.*;
public class Matrix {
	public static void main(String[] a) throws Exception {
		CertificateFactory f = CertificateFactory.getInstance("X.509");
		KeyStore trust = KeyStore.getInstance("PKCS12"), own = KeyStore.getInstance("PKCS12");
		trust.load(null, null); trust.setCertificateEntry("ca", f.generateCertificate(new FileInputStream(a[1] + "/ca.crt")));
		own.load(new FileInputStream(a[1] + "/client.p12"), "x".toCharArray());
		TrustManagerFactory tm = TrustManagerFactory.getInstance("PKIX"); tm.init(trust);
		KeyManagerFactory km = KeyManagerFactory.getInstance("PKIX"); km.init(own, "x".toCharArray());
		for (String v : new String[]{"TLSv1.2", "TLSv1.3"}) for (boolean mutual : new boolean[]{false, true}) {
			SSLContext c = SSLContext.getInstance("TLS"); c.init(mutual ? km.getKeyManagers() : null, tm.getTrustManagers(), null);
			for (String suite : c.getSupportedSSLParameters().getCipherSuites()) {
				boolean is13 = !suite.contains("_WITH_");
				if (is13 != v.equals("TLSv1.3") || !(suite.contains("GCM") || suite.contains("CHACHA")) || (!is13 && !suite.startsWith("TLS_ECDHE"))) continue;
				String what = "version=" + v + " suite=" + suite + " mutual=" + mutual;
				try (Socket raw = new Socket(a[0], 443)) {
					String host = mutual ? "mutual.tls.test" : "web.tls.test";
					if (mutual && suite.contains("ECDHE_RSA")) continue; // that server has an ECDSA certificate alone
					SSLSocket s = (SSLSocket) c.getSocketFactory().createSocket(raw, host, 443, true);
					s.setEnabledProtocols(new String[]{v}); s.setEnabledCipherSuites(new String[]{suite}); s.setSoTimeout(10000);
					s.getOutputStream().write(("GET /hello HTTP/1.1\\r\\nhost: " + host + "\\r\\nconnection: close\\r\\n\\r\\n").getBytes());
					String line = new BufferedReader(new InputStreamReader(s.getInputStream())).readLine();
					System.out.println((line != null && line.contains(" 200 ") ? "ok " : "not ok ") + what + " " + line);
				} catch (Exception e) { System.out.println("not ok " + what + " " + e); }
			}
		}
	}
}
"""

# A word a listener: port,version,what,mutual,certificate; what is a group for Go, a suite for Java.
GO_SERVER = """
package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "net/http"; "os"; "strings")
func main() {
	dir := os.Args[1]; pem, _ := os.ReadFile(dir + "/ca.crt"); pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem)
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	groups := map[string]tls.CurveID{"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384}
	for _, word := range os.Args[2:] {
		w := strings.Split(word, ","); cert, e := tls.LoadX509KeyPair(dir+"/"+w[4]+".crt", dir+"/"+w[4]+".key"); if e != nil { panic(e) }
		c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: versions[w[1]], MaxVersion: versions[w[1]], CurvePreferences: []tls.CurveID{groups[w[2]]}, ClientCAs: pool}
		if w[3] == "mutual" { c.ClientAuth = tls.RequireAndVerifyClientCert }
		l, e := tls.Listen("tcp", "198.19.0.11:" + w[0], c); if e != nil { panic(e) }
		go http.Serve(l, http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(to, "version=%x peers=%d", r.TLS.Version, len(r.TLS.PeerCertificates))
		}))
	}
	select {}
}
"""
JAVA_SERVER = """
import java.io.*; import java.net.*; import java.security.*; import java.security.cert.*; import javax.net.ssl.*;
public class Server {
	public static void main(String[] a) throws Exception {
		KeyStore trust = KeyStore.getInstance("PKCS12");
		trust.load(null, null);
		trust.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(a[0] + "/ca.crt")));
		TrustManagerFactory tm = TrustManagerFactory.getInstance("PKIX"); tm.init(trust);
		for (int i = 1; i < a.length; i++) {
			String[] w = a[i].split(",");
			KeyStore own = KeyStore.getInstance("PKCS12"); own.load(new FileInputStream(a[0] + "/" + w[4] + ".p12"), "x".toCharArray());
			KeyManagerFactory km = KeyManagerFactory.getInstance("PKIX"); km.init(own, "x".toCharArray());
			SSLContext c = SSLContext.getInstance("TLS"); c.init(km.getKeyManagers(), tm.getTrustManagers(), null);
			SSLServerSocket l = (SSLServerSocket) c.getServerSocketFactory().createServerSocket(Integer.parseInt(w[0]), 64, InetAddress.getByName("198.19.0.11"));
			l.setEnabledProtocols(new String[]{"TLSv" + w[1]}); l.setEnabledCipherSuites(new String[]{w[2]}); l.setNeedClientAuth(w[3].equals("mutual"));
			new Thread(() -> { while (true) try (SSLSocket s = (SSLSocket) l.accept()) {
				s.setSoTimeout(10000); BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream()));
				for (String line = in.readLine(); line != null && !line.isEmpty(); ) line = in.readLine();
				int peers = 0; try { peers = s.getSession().getPeerCertificates().length; } catch (SSLPeerUnverifiedException none) { }
				String body = "version=" + (s.getSession().getProtocol().equals("TLSv1.3") ? "304" : "303") + " peers=" + peers;
				s.getOutputStream().write(("HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: " + body.length() + "\\r\\n\\r\\n" + body).getBytes());
			} catch (Exception e) { System.out.println(w[0] + " " + e); } }).start();
		}
	}
}
"""
JAVA_SUITES = {("1.2", "web-ec"): ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
               ("1.2", "web-rsa"): ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"],
               ("1.3", "web-ec"): SUITES["1.3"], ("1.3", "web-rsa"): SUITES["1.3"]}
FIRST_PORT = 9500


def listeners():
    """{name of the host and its upstream: (kind, word for its server)}"""
    cells = [("go", version, group, mutual, key) for version in SUITES for group in GROUPS for mutual in ("plain", "mutual") for key in ("web-ec", "web-rsa")
             if not (version == "1.2" and key == "web-ec" and group != "P-256")]  # the certificate's own, RFC 8422 5.1
    cells += [("java", version, suite, mutual, key) for (version, key), suites in JAVA_SUITES.items() for suite in suites for mutual in ("plain", "mutual")]
    return {f"{kind}{i}": (kind, f"{FIRST_PORT + i},{version},{what},{mutual},{key}") for i, (kind, version, what, mutual, key) in enumerate(cells)}


class Table:
    def __init__(self, name):
        self.name, self.n, self.bad = name, 0, 0

    def cell(self, what, ok, why=""):
        self.n += 1
        if not ok:
            self.bad += 1
            print(f"not ok {self.name}: {what}: {' '.join(str(why).split())[:200]}", flush=True)

    def lines(self, text):
        for line in text.splitlines():
            if line.startswith(("ok ", "not ok ")):
                self.cell(line, line.startswith("ok "), line)


def hosts():
    return ((base.HOST, False), (base.MUTUAL, True))


def fits(suite, mutual):
    """The server that asks for certificates has an ECDSA one alone."""
    return not (mutual and suite.startswith("ECDHE-RSA"))


def openssl(t):
    for version, suites in SUITES.items():
        for suite in suites:
            for group in GROUPS:
                for host, mutual in hosts():
                    if not fits(suite, mutual):
                        continue
                    groups = group if version == "1.3" or "RSA" in suite or group == "P-256" else group + ":P-256"  # the certificate's own, RFC 8422 5.1
                    words = ["-tls" + version.replace(".", "_"), "-ciphersuites" if version == "1.3" else "-cipher", suite, "-groups", groups]
                    words += base.client_certificate() if mutual else []
                    done = base.s_client(host, *words)
                    t.cell(f"{version} {suite} {group} mutual={mutual}", " 200 " in done.stdout, done.stderr[-200:])
    for version in SUITES:
        path = f"{base.STATE['certs']}/session-{version}"
        words = ["-tls" + version.replace(".", "_")]
        base.s_client(base.HOST, *words, "-sess_out", path)
        done = base.s_client(base.HOST, *words, "-sess_in", path)
        t.cell(f"{version} resumed", "Reused, TLS" in done.stdout and " 200 " in done.stdout, done.stdout[:200])


def curl(t):
    for version in SUITES:
        for protocol in ("--http1.1", "--http2"):
            for host, mutual in hosts():
                words = ["--tlsv" + version, "--tls-max", version, protocol, "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]
                words += base.client_certificate() if mutual else []
                done = base.curl(host, *words)
                t.cell(f"{version} {protocol} mutual={mutual}", done.stdout.startswith("200 " + ("2" if protocol == "--http2" else "1.1")), done.stdout + done.stderr)


def gnutls(t):
    for version in SUITES:
        for cipher in ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"):
            for group in ("X25519", "SECP256R1", "SECP384R1"):
                for host, mutual in hosts():
                    own = ":+GROUP-SECP256R1" if version == "1.2" else ""  # the certificate's, RFC 8422 5.1
                    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}:-CIPHER-ALL:+{cipher}:-GROUP-ALL:+GROUP-{group}{own}"
                    words = ["--x509certfile", f"{base.STATE['certs']}/client.crt", "--x509keyfile", f"{base.STATE['certs']}/client.key"] if mutual else []
                    done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], "gnutls-cli", "--x509cafile", f"{base.STATE['certs']}/ca.crt",
                                           "--priority", priority, "--sni-hostname", host, "--verify-hostname", host, "--port", "443", *words, GATEWAY],
                                          input=f"GET /hello HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", capture_output=True, text=True, timeout=20)
                    t.cell(f"{version} {cipher} {group} mutual={mutual}", "Handshake was completed" in done.stdout, done.stdout[-200:] + done.stderr[-100:])


def python(t):
    for version in SUITES:
        for alpn in (None, ["http/1.1"]):
            for host, mutual in hosts():
                c = ssl.create_default_context(cafile=f"{base.STATE['certs']}/ca.crt")
                c.minimum_version = c.maximum_version = getattr(ssl.TLSVersion, "TLSv" + version.replace(".", "_"))
                if alpn:
                    c.set_alpn_protocols(alpn)
                if mutual:
                    c.load_cert_chain(f"{base.STATE['certs']}/client.crt", f"{base.STATE['certs']}/client.key")
                session, what = None, f"{version} alpn={alpn} mutual={mutual}"
                try:
                    for resumed in (False, True):
                        s = c.wrap_socket(support.connect(GATEWAY, 443), server_hostname=host, session=session)
                        connection = http.client.HTTPConnection(host)
                        connection.sock = s
                        connection.request("GET", "/hello", headers={"host": host})
                        status = connection.getresponse().status
                        t.cell(f"{what} resumed={resumed}", status == 200 and s.session_reused == resumed, f"{status} reused={s.session_reused}")
                        session = s.session
                        s.close()
                except OSError as e:
                    t.cell(what, False, e)


def compiled(t, name, source, words, environment=None):
    path = f"{base.STATE['certs']}/{name}"
    with open(path, "w") as f:
        f.write(source)
    done = subprocess.run(["ip", "netns", "exec", lab.NAMESPACES["client"], *words, path, GATEWAY, base.STATE["certs"]], capture_output=True, text=True,
                          timeout=300, env={**os.environ, **(environment or {})})
    t.lines(done.stdout)
    if done.returncode or not t.n:
        t.cell(name, False, done.stderr[-300:])


def go(t):
    compiled(t, "matrix.go", GO, ["go", "run"], {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"})


def java(t):
    base.openssl("pkcs12", "-export", "-in", "client.crt", "-inkey", "client.key", "-out", "client.p12", "-passout", "pass:x")
    compiled(t, "Matrix.java", JAVA, ["java"])


def server(t, kind, file, source, words):
    """Our client towards a server of another's: each listener is asked twice, over connections of their own."""
    path = f"{base.STATE['certs']}/{file}"
    with open(path, "w") as f:
        f.write(source)
    own = {name: word for name, (of, word) in listeners().items() if of == kind}
    process = support.start_in("backends", "env", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", *words, path, base.STATE["certs"], *own.values())
    try:
        last = list(own.values())[-1].split(",")[0]
        support.wait_for(lambda: support.run_in("backends", "sh", "-c", f"ss -ltn | grep -c :{last}").returncode == 0, 90, f"{kind}'s server does not listen")
        for name, word in own.items():
            _, version, _, mutual, _ = word.split(",")
            wanted = f"version={'304' if version == '1.3' else '303'} peers={1 if mutual == 'mutual' else 0}"
            for _ in range(2):
                status, body, _ = base.upstream(name)
                t.cell(word, status == 200 and body.decode() == wanted, f"{status} {body[:150]}")
    finally:
        ui.kill_group(process)


def go_server(t):
    server(t, "go", "server.go", GO_SERVER, ["go", "run"])


def java_server(t):
    for name in ("web-ec", "web-rsa"):
        base.openssl("pkcs12", "-export", "-in", f"{name}.crt", "-inkey", f"{name}.key", "-out", f"{name}.p12", "-passout", "pass:x")
    server(t, "java", "Server.java", JAVA_SERVER, ["java"])


CLIENTS = {"openssl": (openssl, "openssl"), "curl": (curl, "curl"), "gnutls": (gnutls, "gnutls-cli"), "python": (python, "python3"), "go": (go, "go"),
           "java": (java, "java"), "go-server": (go_server, "go"), "java-server": (java_server, "java")}


def main(words):
    for name, (_, word) in listeners().items():
        mode = "MUTUAL, credentialName: client" if ",mutual," in word else "SIMPLE, credentialName: roots"
        base.UPSTREAMS[name] = (f"mode: {mode}, sni: {name}.up.test, subjectAltNames: [{name}.up.test]", name)
        base.PORTS[name] = int(word.split(",")[0])
    base.set_up()
    n_bad = 0
    try:
        for name in words or CLIENTS:
            run, program = CLIENTS[name]
            t = Table(name)
            if shutil.which(program):
                run(t)
            print(f"{name:11} {f'{t.n - t.bad} of {t.n}' if t.n else f'{program} is not there'}", flush=True)
            n_bad += t.bad
    finally:
        lab.down(keep_quiet=True)
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
