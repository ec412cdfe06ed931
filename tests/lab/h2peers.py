"""HTTP/2 ends for the lab: an origin and a client over python's h2, with sockets inside the lab's namespaces."""
import hashlib
import socket
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
import hyperframe.frame

import support


def pump(connection, sock):
    data = connection.data_to_send()
    if data:
        sock.sendall(data)


class Origin:
    """A scripted HTTP/2 server (prior knowledge) in the backends namespace. /bytes/N answers N bytes; /echo sends back what comes as it comes,
    with trailers; anything else answers when the request is whole. grpc requests get trailers with grpc_status."""

    def __init__(self, address, name, port=7070, streams_max=100):
        self.address, self.name, self.port, self.streams_max = address, name, port, streams_max
        self.seen, self.connections = [], []
        self.calm()
        self.listener = support.socket_in("backends")
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(256)
        threading.Thread(target=self.accept_loop, daemon=True).start()

    def calm(self):
        self.grpc_status, self.trailers_only, self.goaway_next, self.delay_s = 0, False, False, 0
        self.refuse_next, self.refuse_code = 0, 7  # so many streams are reset, and by what code
        del self.seen[:]

    def accept_loop(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            c = OriginConnection(self, s)
            self.connections.append(c)
            threading.Thread(target=c.run, daemon=True).start()

    def kill(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.connections:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class OriginConnection:
    def __init__(self, origin, sock):
        self.origin, self.sock = origin, sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings.update({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: origin.streams_max})
        self.requests, self.to_send, self.n_streams = {}, {}, 0

    def run(self):
        try:
            self.h2.initiate_connection()
            pump(self.h2, self.sock)
            while data := self.sock.recv(65536):
                for event in self.h2.receive_data(data):
                    self.on(event)
                self.send_more()
                pump(self.h2, self.sock)
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            self.sock.close()

    def on(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.n_streams += 1
            request = {"headers": event.headers, "body": hashlib.sha256(), "n": 0, "trailers": [], "connection": self}
            self.requests[event.stream_id] = request
            self.origin.seen.append(request)
            if self.origin.refuse_next:
                self.origin.refuse_next -= 1
                self.h2.reset_stream(event.stream_id, self.origin.refuse_code)
                request["refused"] = True
            elif dict(event.headers)[":path"] == "/echo":
                kind = [(name, value) for name, value in event.headers if name == "content-type"]
                self.h2.send_headers(event.stream_id, [(":status", "200"), ("x-origin", self.origin.name), *kind])
        elif isinstance(event, h2.events.DataReceived):
            request = self.requests[event.stream_id]
            request["body"].update(event.data)
            request["n"] += len(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if dict(request["headers"])[":path"] == "/echo":
                self.h2.send_data(event.stream_id, event.data)
        elif isinstance(event, h2.events.TrailersReceived):
            self.requests[event.stream_id]["trailers"] = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id, self.requests[event.stream_id])
        elif isinstance(event, h2.events.StreamReset):
            self.to_send.pop(event.stream_id, None)

    def answer(self, stream_id, request):
        headers, origin = dict(request["headers"]), self.origin
        if request.get("refused"):
            return
        if origin.delay_s:
            time.sleep(origin.delay_s)
        is_grpc = headers.get("content-type", "").startswith("application/grpc")
        trailers = [("grpc-status", str(origin.grpc_status)), ("grpc-message", "said by the origin")] if is_grpc else [("x-trailer", "t")]
        if headers[":path"] == "/echo":
            self.h2.send_headers(stream_id, trailers, end_stream=True)
            return
        head = [(":status", "200"), ("x-origin", origin.name), ("content-type", headers.get("content-type", "text/plain"))]
        if is_grpc and origin.trailers_only:
            self.h2.send_headers(stream_id, head + trailers, end_stream=True)
            return
        self.h2.send_headers(stream_id, head, end_stream=headers[":method"] == "HEAD")
        if headers[":method"] == "HEAD":
            return
        if headers[":path"].startswith("/bytes/"):
            body = b"".join(support.body_of(int(headers[":path"][7:])))
        else:
            body = f"{origin.name} {headers[':path']} {request['body'].hexdigest()}\n".encode()
        self.to_send[stream_id] = (memoryview(body), trailers)
        if origin.goaway_next:
            origin.goaway_next = False
            self.sock.sendall(hyperframe.frame.GoAwayFrame(0, last_stream_id=stream_id).serialize())

    def send_more(self):
        for stream_id, (body, trailers) in list(self.to_send.items()):
            while body and (n := min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size, len(body))) > 0:
                self.h2.send_data(stream_id, bytes(body[:n]))
                body = body[n:]
            self.to_send[stream_id] = (body, trailers)
            if not body:
                self.h2.send_headers(stream_id, trailers, end_stream=True)
                del self.to_send[stream_id]


class Client:
    """One HTTP/2 connection from the client namespace. answers[stream] collects what comes; with reads False windows are not opened again."""

    def __init__(self, host, port=80, timeout_s=10):
        self.host = host
        self.sock = support.connect(port=port, timeout_s=timeout_s)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False,
                                                                     normalize_outbound_headers=False))
        self.answers, self.goaway, self.held = {}, None, set()
        self.h2.initiate_connection()
        pump(self.h2, self.sock)

    def send(self, path="/", method="GET", headers=(), body=None, trailers=None, end=True):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", self.host), *headers]
        self.h2.send_headers(stream, head, end_stream=end and body is None and not trailers)
        self.answers[stream] = {"status": None, "headers": {}, "body": b"", "trailers": None, "ended": False, "reset": None}
        if body is not None:
            self.data(stream, body, end and not trailers)
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        pump(self.h2, self.sock)
        return stream

    def data(self, stream, body, end=False):
        body = memoryview(body)
        while True:
            n = min(len(body), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if n or not body:
                self.h2.send_data(stream, bytes(body[:n]), end_stream=end and n == len(body))
                body = body[n:]
            pump(self.h2, self.sock)
            if not body:
                return
            if not n:
                self.turn()

    def turn(self):
        """Reads once. False: the peer has closed."""
        data = self.sock.recv(1 << 18)
        for event in self.h2.receive_data(data) if data else []:
            answer = self.answers.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                answer["headers"] = dict(event.headers)
                answer["status"] = int(answer["headers"][":status"])
            elif isinstance(event, h2.events.DataReceived):
                answer["body"] += event.data
                if event.stream_id not in self.held:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                answer["trailers"] = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                answer["ended"] = True
            elif isinstance(event, h2.events.StreamReset):
                answer["reset"] = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event
        pump(self.h2, self.sock)
        return bool(data)

    def wait(self, *streams):
        """Until these have ended or were reset; the first one's answer."""
        while not all(self.answers[s]["ended"] or self.answers[s]["reset"] is not None for s in streams):
            support.check(self.turn(), f"the connection closed: {self.goaway}")
        return self.answers[streams[0]]

    def ask(self, *words, **more):
        return self.wait(self.send(*words, **more))

    def close(self):
        self.sock.close()


class Raw:
    """A client that sends and sees frames, for what python's h2 would not do."""

    def __init__(self, port=80, timeout_s=10):
        self.sock, self.data, self.encoder = support.connect(port=port, timeout_s=timeout_s), b"", hpack.Encoder()
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hyperframe.frame.SettingsFrame(0).serialize())

    def send(self, *frames):
        self.sock.sendall(b"".join(f.serialize() for f in frames))

    def request(self, stream, path, host, method="GET", end=True):
        block = self.encoder.encode([(":method", method), (":scheme", "http"), (":path", path), (":authority", host)])
        self.send(hyperframe.frame.HeadersFrame(stream, block, flags=["END_HEADERS"] + (["END_STREAM"] if end else [])))

    def frame(self):
        """The next one; None: the peer has closed."""
        while len(self.data) < 9 or len(self.data) < 9 + int.from_bytes(self.data[:3], "big"):
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        frame, n = hyperframe.frame.Frame.parse_frame_header(memoryview(self.data)[:9])
        frame.parse_body(memoryview(self.data)[9:9 + n])
        self.data = self.data[9 + n:]
        return frame

    def until(self, kind, what=lambda f: True):
        """The next frame of this type that what() likes."""
        while True:
            frame = self.frame()
            support.check(frame is not None, f"the peer closed before a {kind.__name__} came")
            if isinstance(frame, kind) and what(frame):
                return frame

    def close(self):
        self.sock.close()
