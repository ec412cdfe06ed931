"""A SYN flood as fast as one core brings it, from addresses of the link that nobody has: who is connected keeps his pace, who comes gets in, and
nothing is left of it. The same in virtual time, and the other attacks, in tests/sim/strangers.c; the table is docs/attacks.md."""
import multiprocessing
import random
import socket
import struct
import threading
import time

from support import GATEWAY, Metrics, Skip, check, connect, run_in, socket_in

WITH_LAB = True
SECONDS, PACE_S, EXCHANGE = 4, 0.01, 4096
SYN_OPTIONS = bytes.fromhex("020405b40101040201030307")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(mac, ours, rng):
    src, dst = socket.inet_aton(f"198.18.0.{rng.randrange(3, 255)}"), socket.inet_aton(GATEWAY)
    tcp = struct.pack("!HHIIBBHHH", rng.randrange(1024, 65535), 80, rng.getrandbits(32), 0, 8 << 4, 2, 64240, 0, 0) + SYN_OPTIONS
    tcp = tcp[:16] + struct.pack("!H", checksum(src + dst + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + src + dst
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return mac + ours + b"\x08\0" + ip + tcp


def flood(mac, until, sent):
    """A process of its own: the Python that measures must not wait for the Python that floods."""
    s = socket_in("client", socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("foil-c0", 0))
    rng = random.Random(7)
    frames = [syn(mac, s.getsockname()[4], rng) for _ in range(4000)]
    n = 0
    while time.monotonic() < until:
        for frame in frames[n % 4000:n % 4000 + 100]:
            try:
                s.send(frame)
            except OSError:  # the device's queue is full
                time.sleep(0.0001)
        n += 100
    sent.value = n


def gateway_mac():
    out = run_in("client", "ip", "neigh", "show", GATEWAY).stdout.split()
    if "lladdr" not in out:
        raise Skip("the client does not know the data plane's link-layer address")
    return bytes.fromhex(out[out.index("lladdr") + 1].replace(":", ""))


def exchanges(s, until):
    """At a fixed pace, as a user would: how many went through."""
    n, due = 0, time.monotonic()
    while time.monotonic() < until:
        s.sendall(b"x" * EXCHANGE)
        got = 0
        while got < EXCHANGE:
            piece = s.recv(65536)
            check(piece, "the established connection ended")
            got += len(piece)
        n += 1
        due = max(due + PACE_S, time.monotonic() - 5 * PACE_S)
        time.sleep(max(0, due - time.monotonic()))
    return n


def newcomers(until, result):
    while time.monotonic() < until:
        begun = time.monotonic()
        try:
            connect(port=80, timeout_s=5).close()
            result.append(time.monotonic() - begun)
        except OSError:
            result.append(None)
        time.sleep(0.1)


def test_a_syn_flood_takes_nothing_from_who_is_connected_and_keeps_nobody_out():
    s = connect(port=9000)
    exchanges(s, time.monotonic() + 0.5)
    before = exchanges(s, time.monotonic() + SECONDS)
    counted = Metrics()
    until, sent, came = time.monotonic() + SECONDS + 1, multiprocessing.Value("q"), []
    flooder = multiprocessing.get_context("fork").Process(target=flood, args=(gateway_mac(), until, sent), daemon=True)
    flooder.start()
    client = threading.Thread(target=newcomers, args=(until - 1, came), daemon=True)
    time.sleep(0.5)
    client.start()
    during = exchanges(s, time.monotonic() + SECONDS)
    flooder.join(20)
    client.join(20)
    s.close()
    cookies = Metrics().sum("foil_tcp_notes_total", reason="syn_cookie_sent") - counted.sum("foil_tcp_notes_total", reason="syn_cookie_sent")
    print(f"# {sent.value} SYNs in {SECONDS + 1} s; exchanges {before} before, {during} during; newcomers {len(came)}, "
          f"{sum(t is not None for t in came)} came in, slowest {max((t for t in came if t), default=0):.2f} s; {cookies:.0f} cookies")
    check(sent.value > 10000, f"the flood was none: {sent.value} SYNs")
    check(cookies > 0, "no SYN was answered by a cookie")
    check(during * 10 >= before * 9, f"{before} exchanges before the flood, {during} during it")
    check(came and sum(t is not None for t in came) * 10 >= len(came) * 9, f"of {len(came)} newcomers only {sum(t is not None for t in came)} came in")
