"""foil-load against itself over the loopback: TLS both ways, client certificates, resumption, HTTP/2. A load generator that miscounts misleads everybody."""
import json
import os
import shutil
import subprocess
import tempfile

from foilrun import bench_peers, build
import support

PORT = "18080"


def load(folder, *words, fails=False):
    path = os.path.join(folder, "load.json")
    program = os.path.join(build.folder(os.environ.get("FOIL_BUILD", "release")), "perf", "foil-load")
    if not os.path.exists(program):
        raise support.Skip("perf/foil-load is not built")
    done = subprocess.run([program, "--sockets", "--origin-address", "127.0.0.1/8", "--origin-port", PORT, "--target", f"127.0.0.1:{PORT}", "--seconds", "0.4",
                           "--warm-up", "0.2", "--quiet", "--connections", "4", "--host", bench_peers.HOST, "--json", path, *words],
                          capture_output=True, text=True, timeout=60)
    if fails:
        return done
    assert done.returncode == 0, done.stderr
    with open(path) as f:
        result = json.load(f)
    assert result["requests"] > 0, result
    assert sum(result["errors"].values()) == 0, result["errors"]
    assert abs(result["origin_requests"] - result["requests"]) <= 64, result  # what was in flight at either end of the measured time
    return result


def test_load_speaks_tls_and_http2():
    folder = tempfile.mkdtemp(prefix="foil-load-")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False, capture_output=True)
    try:
        secure = ["--tls", "--origin-tls", *bench_peers.certificate_arguments(bench_peers.make_certificates(folder + "/certificates"))]
        load(folder)
        load(folder, *secure)
        load(folder, *secure, "--tls-1.2")
        load(folder, *secure, "--body", "300000")
        assert load(folder, *secure, "--work", "newconn")["resumed"] == 0
        resumed = load(folder, *secure, "--work", "newconn", "--resume")
        assert resumed["resumed"] > resumed["handshakes"] / 2, resumed
        load(folder, "--http2", "--origin-http2", "--pipeline", "8")
        load(folder, "--http2", "--origin-http2", "--pipeline", "4", "--body", "300000", *secure)
        other = bench_peers.make_certificates(folder + "/other")
        refused = load(folder, *secure, "--ca", other + "/ca.crt", fails=True)  # the last word counts
        assert refused.returncode != 0 or "errors 0" not in refused.stdout, refused.stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
