"""WebSocket between real peers: python's websockets on both ends over HTTP/1.1, python's h2 with extended CONNECT (RFC 8441) before them, and what an origin's
refusal leaves."""
import asyncio
import os
import random
import socket
import threading

import h2.config
import h2.connection
import h2.events
import shared
import support
from support import Counted, Log, Skip, check

try:
    import websockets
except ImportError:
    websockets = None

WITH_LAB = True
HOST = "ws.example.com"
PORT = 8002
CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ws, namespace: bookinfo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8002, name: http-ws, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ws, namespace: bookinfo}
spec:
  hosts: [ws.bookinfo]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 8090, name: http, protocol: HTTP}
  endpoints:
  - {address: 198.19.0.21}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ws, namespace: bookinfo}
spec:
  hosts: ["*"]
  gateways: [ws]
  http:
  - timeout: 2s
    route: [{destination: {host: ws.bookinfo, port: {number: 8090}}}]
"""
STATE = {}


async def echo(connection, *ignored):
    try:
        async for message in connection:
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass


def listening(address, port):
    s = support.socket_in("backends")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(64)
    return s


def origin():
    """The echo server and its route, from the first test that asks on."""
    if websockets is None:
        raise Skip("python's websockets is not installed")
    if STATE:
        return
    loop = asyncio.new_event_loop()

    async def serve(sock):
        return await websockets.serve(echo, sock=sock, max_size=None)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    STATE["server"] = asyncio.run_coroutine_threadsafe(serve(listening("198.19.0.21", 8090)), loop).result(10)
    before = support.snapshot().get("version")
    support.replace(shared.config_file("96-ws.yaml"), CONFIG)
    support.wait_applied(before)


def speak(talk):
    async def run():
        sock = support.connect(port=PORT)
        sock.setblocking(False)
        async with websockets.connect(f"ws://{HOST}/chat?x=1", sock=sock, max_size=None) as connection:
            return await asyncio.wait_for(talk(connection), 60)
    return asyncio.run(run())


def test_messages_of_every_size_come_back():
    origin()
    sizes = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]

    async def talk(connection):
        for n in sizes:
            message = random.Random(n).randbytes(n)
            await connection.send(message)
            check(await connection.recv() == message, f"{n} bytes")
            text = "é" * (n // 2)
            await connection.send(text)
            check(await connection.recv() == text, f"text of {n} bytes")
        await (await connection.ping())
    log = Log()
    with Counted("foil_mesh_tunnels_total") as tunnels:
        speak(talk)
        tunnels.grew(1)
    line = log.find('"GET /chat?x=1 HTTP/1.1" 101')
    check(" DC " in line or " UC " in line, line)
    support.wait_for(lambda: support.Metrics().sum("foil_mesh_tunnels_active") == 0, 5, "a tunnel is left")


def test_both_directions_at_once_with_a_slow_reader():
    origin()
    messages = [random.Random(n).randbytes(200_000) for n in range(40)]

    async def talk(connection):
        async def send():
            for m in messages:
                await connection.send(m)
        sending = asyncio.ensure_future(send())
        for i, m in enumerate(messages):
            if i % 10 == 0:
                await asyncio.sleep(0.2)
            check(await connection.recv() == m, f"message {i}")
        await sending
    speak(talk)


def test_a_tunnel_outlives_the_routes_timeout():
    origin()

    async def talk(connection):
        await connection.send("before")
        check(await connection.recv() == "before", "before")
        await asyncio.sleep(2.5)
        await connection.send("after")
        check(await connection.recv() == "after", "after")
    speak(talk)


def frame(text):
    mask = os.urandom(4)
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))


class Stream:
    """One HTTP/2 connection with one stream that asks for websocket."""

    def __init__(self, protocol="websocket"):
        self.sock = support.connect(port=PORT)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.status, self.data, self.ended, self.reset, self.settings = None, b"", False, None, {}
        self.flush()
        self.until(lambda: self.settings)
        self.h2.send_headers(1, [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", "/chat"), (":authority", HOST),
                                 ("sec-websocket-version", "13")])
        self.flush()
        self.until(lambda: self.status or self.reset is not None)

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def send(self, data, end=False):
        self.h2.send_data(1, data, end_stream=end)
        self.flush()

    def until(self, what):
        while not what():
            data = self.sock.recv(65536)
            check(data, "the connection was closed")
            for e in self.h2.receive_data(data):
                if isinstance(e, h2.events.RemoteSettingsChanged):
                    self.settings = {int(k): v.new_value for k, v in e.changed_settings.items()}
                elif isinstance(e, h2.events.ResponseReceived):
                    self.status = int(dict(e.headers)[":status"])
                elif isinstance(e, h2.events.DataReceived):
                    self.data += e.data
                    self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                elif isinstance(e, h2.events.StreamEnded):
                    self.ended = True
                elif isinstance(e, h2.events.StreamReset):
                    self.reset = e.error_code
            self.flush()


def test_extended_connect_reaches_an_http1_origin():
    origin()
    log = Log()
    s = Stream()
    check(s.settings.get(8) == 1, f"SETTINGS_ENABLE_CONNECT_PROTOCOL: {s.settings}")
    check(s.status == 200, f"status {s.status}")  # the origin has seen a key of ours, and proved it
    s.send(frame(b"hello over h2"))
    s.until(lambda: len(s.data) >= 15)
    check(s.data == b"\x81\x0dhello over h2", repr(s.data))
    s.send(b"\x88\x82" + b"\0\0\0\0" + b"\x03\xe8")  # close, 1000
    s.until(lambda: s.ended)
    check(s.data.endswith(b"\x88\x02\x03\xe8"), repr(s.data))
    s.send(b"", end=True)
    log.find('"GET /chat HTTP/2" 101')
    s.sock.close()


def test_other_protocols_are_refused():
    origin()
    s = Stream("connect-udp")
    check(s.status == 403, f"status {s.status}")
    s.sock.close()
    status, headers, _ = support.ask(HOST, "/chat", headers={"Upgrade": "other", "Connection": "Upgrade"}, port=PORT)
    check(status == 403 and headers.get("connection") == "close", f"{status} {headers}")


def test_a_refusal_passes_and_what_was_sent_early_does_not():
    """No Sec-WebSocket-Key: the origin says 400 or 426; the bytes behind the request are no request."""
    origin()
    log = Log()
    with support.connect(port=PORT) as s:
        s.sendall(f"GET /chat HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                  f"GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        answer = b""
        while data := s.recv(65536):
            answer += data
    check(answer.startswith(b"HTTP/1.1 4") and answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer.lower(), repr(answer)[:300])
    log.find('"GET /chat HTTP/1.1" 4', "via_upstream")
    check(not any("smuggled" in line for line in log.lines()), "what followed was taken for a request")
