"""Many bytes and many connections: nothing is lost, changed or kept. With FOIL_FULL=1 the large bodies are of 1 GiB, else of 256 MiB,
so that CI stays short."""
import os
import tempfile
import time

from foilrun import lab
from support import (GATEWAY, Metrics, body_of, check, connect, curl, run_in, sha256_of, wait_for)

WITH_LAB = True
FILES = "files.example.com"
N_BYTES = (1 << 30) if os.environ.get("FOIL_FULL") else 256 << 20
N_CONNECTIONS = 10000
AGREE_LIMIT_S = 90  # TIME-WAIT lasts a minute


def test_large_download_has_the_right_sha256():
    done = run_in("client", "bash", "-c", f"curl -sS --max-time 300 -H 'Host: {FILES}' http://{GATEWAY}/bytes/{N_BYTES} | sha256sum",
                  timeout_s=320)
    check(done.stdout.split()[0] == sha256_of(body_of(N_BYTES)), f"{done.stdout} {done.stderr}")


def test_large_upload_has_the_right_sha256():
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="foil-upload-") as f:
        for block in body_of(N_BYTES):
            f.write(block)
        f.flush()
        for words in (["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]):
            done = curl("-T", f.name, "-H", f"Host: {FILES}", *words, f"http://{GATEWAY}/put", timeout_s=300)
            check(sha256_of(body_of(N_BYTES)) in done.stdout, f"{words}: {done.stdout} {done.stderr}")


def test_slow_reader_does_not_fill_the_proxy():
    before = Metrics().gauges()
    s = connect()
    s.setsockopt(1, 8, 4096)  # SO_RCVBUF
    s.sendall(f"GET /bytes/{64 << 20} HTTP/1.1\r\nHost: {FILES}\r\n\r\n".encode())
    time.sleep(2)
    during = Metrics().gauges()
    grown = {k: v - before.get(k, 0) for k, v in during.items() if "mbuf" in k and "use" in k}
    check(all(v < 4000 for v in grown.values()), f"buffers grew without limit: {grown}")
    s.close()


def open_and_close(n):
    """Half of them speak HTTP, half plain TCP; eight at a time."""
    for start in range(0, n, 8):
        batch = [connect(port=80 if i % 2 else 9000) for i in range(start, min(start + 8, n))]
        for s in batch:
            s.sendall(b"GET /c HTTP/1.1\r\nHost: files.example.com\r\nConnection: close\r\n\r\n")
        for s in batch:
            check(s.recv(65536), "no answer")
        for s in batch:
            s.close()


def levels():
    """Everything that is a level and should come back, in time."""
    return {k: v for k, v in Metrics().gauges().items() if k.startswith("foil_") and
            any(w in k for w in ("conns", "half_open", "time_wait", "in_use", "active", "sessions", "pools", "mbuf"))}


def quiet(limit_s):
    """Waits until no level changes for two seconds."""
    last, since = levels(), time.monotonic()
    deadline = since + limit_s
    while time.monotonic() < deadline and time.monotonic() - since < 2:
        time.sleep(0.5)
        now = levels()
        if now != last:
            last, since = now, time.monotonic()
    return last


def test_ten_thousand_connections_leave_nothing_behind():
    open_and_close(200)  # the pool of upstream connections has its size now
    before = quiet(AGREE_LIMIT_S)
    check(before, "no levels in the metrics")
    open_and_close(N_CONNECTIONS)
    differing = lambda: {k: (before.get(k), v) for k, v in levels().items() if v > before.get(k, 0)}
    wait_for(lambda: not differing(), AGREE_LIMIT_S, lambda: f"levels before and after: {differing()}", every_s=1)


def test_connections_that_vanish_leave_nothing_behind():
    before = quiet(AGREE_LIMIT_S)
    import socket
    import struct
    for _ in range(500):
        s = connect(port=9000)
        s.sendall(b"x" * 100)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()  # RST
    differing = lambda: {k: (before.get(k), v) for k, v in levels().items() if v > before.get(k, 0)}
    wait_for(lambda: not differing(), AGREE_LIMIT_S, lambda: f"levels before and after: {differing()}", every_s=1)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_hydrofoil_uses_less_than_five_percent_of_a_core():
    quiet(10)
    pid = lab.status()["pids"]["hydrofoil"]
    before, seconds = cpu_seconds(pid), 5
    time.sleep(seconds)
    share = (cpu_seconds(pid) - before) / seconds
    check(share < 0.05, f"{share:.1%} of a core")
