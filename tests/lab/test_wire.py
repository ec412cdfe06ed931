"""What tshark says of our packets on both sides: nothing malformed, no bad checksum, no RST that nobody asked for."""
import os
import signal
import tempfile
import time

from support import Client, Skip, ask, check, connect, run_in, start_in
import shared
import shutil

WITH_LAB = True
OURS = "(ip.src == 198.18.0.1 || ip.src == 198.19.0.1 || ip.src == 198.18.10.0/24 || ipv6.src == fd00:f011::1 || ipv6.src == fd00:f011:1::1)"
CHECKS = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]


def traffic():
    client = Client("reviews.example.com")
    for i in range(300):
        client.ask(f"/w{i}", method="POST" if i % 3 == 0 else "GET", body=b"b" * (i * 100) if i % 3 == 0 else None)
    client.close()
    for _ in range(50):
        ask("reviews.example.com", "/once", headers={"Connection": "close"})
    ask("files.example.com", f"/bytes/{4 << 20}")
    ask("reviews.example.com", "/six", address="fd00:f011:0::1")
    for _ in range(20):
        s = connect(port=9000)
        s.sendall(b"echo" * 5000)
        s.shutdown(1)
        while s.recv(65536):
            pass
        s.close()


# Linux's own sums are 0xffff where tshark counts 0 (skb_checksum_help; in one's complement they are the same number): one segment of 65,536.
BAD_SUM = "ip.checksum.status == Bad || (tcp.checksum.status == Bad && !(tcp.checksum == 0xffff))"


def test_capture_has_nothing_malformed_no_bad_checksum_no_unexpected_rst():
    if not shutil.which("tshark") or not shutil.which("tcpdump"):
        raise Skip("tshark or tcpdump is missing: sudo ./foil setup")
    shared.calm()
    folder = tempfile.mkdtemp(prefix="foil-capture-", dir="/var/tmp")
    try:
        takers = [start_in(name, "tcpdump", "-i", device, "-U", "-Z", "root", "-B", "32768", "-w", f"{folder}/{name}.pcap")
                  for name, device in (("client", "foil-c0"), ("backends", "foil-b0"))]
        time.sleep(1)
        traffic()
        time.sleep(1)
        for taker in takers:
            os.killpg(taker.pid, signal.SIGINT)
            taker.wait(10)
        for name in ("client", "backends"):
            for what, text in (("_ws.malformed", "malformed"), (BAD_SUM, "bad checksum"),
                               (f"tcp.flags.reset == 1 && {OURS}", "RST of ours"), (f"tcp.analysis.lost_segment && {OURS}", "lost segment of ours")):
                done = run_in(name, "tshark", "-r", f"{folder}/{name}.pcap", *CHECKS, "-Y", f"{what}")
                check(done.returncode == 0, done.stderr)
                check(not done.stdout.strip(), f"{name}: {text}:\n" + "\n".join(done.stdout.splitlines()[:5]))
            done = run_in(name, "tshark", "-r", f"{folder}/{name}.pcap", "-Y", f"tcp && {OURS}")
            check(len(done.stdout.splitlines()) > 500, "the capture has too few packets to say anything")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
