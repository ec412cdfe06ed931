"""What foilctl connections and foilctl capture show of a running data plane, against what this test did itself."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from foilrun import lab
from support import GATEWAY, Client, Skip, check, connect, run_in, socket_in, wait_for

WITH_LAB = True
REVIEWS = "reviews.example.com"
ACK, RST, SYN = 0x10, 0x04, 0x02
CLIENT = "198.18.0.2"


def command(*words):
    state = lab.read_state()
    return [state["programs"]["foilctl"], *words, "--node", state["node"]]


def foilctl(*words, status=0):
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=30)
    check(done.returncode == status, f"foilctl {' '.join(words)}: status {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout if status == 0 else done.stderr


def connections(*words):
    return json.loads(foilctl("connections", "--json", *words))


class Capture:
    """foilctl capture around a block; afterwards .packets has (comment, what tshark says of it) in order."""

    def __init__(self, *words, fields=()):
        if not shutil.which("tshark"):
            raise Skip("tshark is missing: sudo ./foil setup")
        self.words, self.fields = words, ["frame.comment", *fields]

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="foil-inspect-", dir="/var/tmp")
        self.file = os.path.join(self.folder, "out.pcapng")
        self.process = subprocess.Popen(command("capture", "-w", self.file, *self.words), stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        check("capturing" in line, line)
        return self

    def __exit__(self, *exception):
        try:
            if exception[0] is None:
                time.sleep(0.3)
            self.process.send_signal(signal.SIGINT)
            check(self.process.wait(20) == 0, "foilctl capture failed")
            done = run_in("client", "tshark", "-r", self.file, "-T", "fields", "-E", "separator=|", *sum((["-e", f] for f in self.fields), []))
            check(done.returncode == 0, done.stderr)
            self.packets = [line.split("|") for line in done.stdout.splitlines()]
        finally:
            self.process.stderr.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def tcp_segment(source_port, port, flags, seq=1, ack=0, options=b"", data_words=None, payload=b""):
    """A TCP segment from the client's address with a right checksum."""
    head = struct.pack("!HHIIBBHHH", source_port, port, seq, ack, (data_words or 5 + len(options) // 4) << 4, flags, 1000, 0, 0) + options + payload
    pseudo = socket.inet_aton(CLIENT) + socket.inet_aton(GATEWAY) + struct.pack("!BBH", 0, 6, len(head))
    total = sum(struct.unpack(f"!{(len(pseudo + head) + 1) // 2}H", pseudo + head + b"\0" * (len(pseudo + head) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return head[:16] + struct.pack("!H", ~total & 0xffff) + head[18:]


def send_raw(*segments):
    with socket_in("client", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as s:
        for segment in segments:
            s.sendto(segment, (GATEWAY, 0))


def test_connections_shows_a_connection_with_its_windows_and_times():
    client = Client(REVIEWS)
    try:
        check(client.ask()[0] == 200, "no answer")
        port = client.connection.sock.getsockname()[1]
        found = connections("--remote", f"{CLIENT}:{port}")
        check(len(found) == 1, f"{len(found)} connections: {found}")
        c = found[0]
        check(c["state"] == "ESTABLISHED" and c["local"] == GATEWAY and c["local_port"] == 80 and not c["active"], str(c))
        check(c["cwnd_bytes"] >= c["mss_bytes"] > 500 and c["srtt_us"] > 0 and c["rto_us"] >= 200000, str(c))
        check(c["send_window_bytes"] > 0 and c["receive_window_bytes"] > 0 and c["in_flight_bytes"] == 0 and c["resent"] == 0, str(c))
        check(c["timestamps"] and c["sack"] and c["window_scale"] and c["congestion"] == "cubic" and c["dropped"] == 0, str(c))
        table = foilctl("connections", "--remote", f"{CLIENT}:{port}")
        check(len(table.splitlines()) == 2 and "ESTABLISHED" in table and "CWND" in table, table)
        ours = [c for c in connections("--state", "established") if c["active"]]
        check(ours and all(c["local"] == "198.19.0.1" for c in ours), f"the connections to origins: {ours}")
    finally:
        client.close()


def test_connections_remembers_what_was_dropped_and_filters_by_state():
    s = connect()
    port = s.getsockname()[1]
    send_raw(tcp_segment(port, 80, SYN, seq=5))
    wait_for(lambda: any(c["last_drop"] for c in connections("--remote", f"{CLIENT}:{port}")), 5, "the SYN was not remembered")
    check(connections("--remote", f":{port}", "--state", "TIME-WAIT") == [], "an established connection among those in TIME-WAIT")
    s.close()
    check("is no filter" in foilctl("connections", "--state", "asleep", status=1), "no such state, but no sentence")


def test_capture_by_reason_has_only_what_was_dropped_for_it():
    with Capture("--reason", "stray_rst", "--reason", "no_listener", fields=("tcp.dstport", "tcp.flags.reset")) as capture:
        client = Client(REVIEWS)
        check(client.ask()[0] == 200, "no answer")
        send_raw(tcp_segment(4444, 81, SYN), tcp_segment(4445, 80, RST), tcp_segment(4446, 80, ACK, data_words=2))
        client.close()
    said = [(p[0].split(" ")[0], p[1]) for p in capture.packets]
    check(said == [("no_listener", "81"), ("stray_rst", "80")], str(capture.packets))
    check("(tcp reset)" in capture.packets[0][0] and "RFC 9293" in capture.packets[0][0], capture.packets[0][0])


def test_capture_of_a_flow_has_each_packet_once_and_both_ways():
    client = Client(REVIEWS)
    check(client.ask()[0] == 200, "no answer")
    port = client.connection.sock.getsockname()[1]
    with Capture("--flow", f"{CLIENT}:{port},{GATEWAY}:80", fields=("ip.src", "tcp.len", "tcp.seq_raw", "ip.id")) as capture:
        send_raw(tcp_segment(port, 80, SYN, seq=9))
        check(client.ask("/in-the-capture")[0] == 200, "no answer")
        check(Client(REVIEWS).ask("/another-flow")[0] == 200, "no answer")
        client.close()
    check({p[1] for p in capture.packets} == {CLIENT, GATEWAY}, str(capture.packets))
    dropped = [p for p in capture.packets if p[0]]
    check(len(dropped) == 1 and dropped[0][0].startswith("no_timestamp"), str(dropped))
    requests = {p[3] for p in capture.packets if p[1] == CLIENT and int(p[2]) > 0}
    check(len(requests) == 1, f"not the one request: {capture.packets}")  # it may have been sent again on a busy machine
    ids = [p[4] for p in capture.packets if p[1] == CLIENT and not p[0]]
    check(len(set(ids)) == len(ids), f"a packet of Linux is there twice: {capture.packets}")


def test_capture_ends_by_count_and_refuses_what_it_does_not_know():
    check("is no filter" in foilctl("capture", "-w", "/dev/null", "--reason", "no_such_reason", status=1), "no sentence")
    s = connect()
    with Capture("--flow", ":80"):
        check("somebody else captures" in foilctl("capture", "-w", "/dev/null", "--reason", "any", status=1), "two at a time")
    s.close()
    with tempfile.TemporaryDirectory(prefix="foil-inspect-", dir="/var/tmp") as folder:
        process = subprocess.Popen(command("capture", "-w", f"{folder}/three.pcapng", "--flow", ":80", "--count", "3"), stderr=subprocess.DEVNULL)
        client = Client(REVIEWS)
        wait_for(lambda: client.ask() and process.poll() is not None, 10, "it does not end after three packets")
        client.close()
        done = run_in("client", "tshark", "-r", f"{folder}/three.pcapng")
        check(len(done.stdout.splitlines()) == 3, done.stdout)
