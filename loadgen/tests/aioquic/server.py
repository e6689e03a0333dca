"""server: aioquic answers the load generator, and says what it saw.

Arguments: the files of certificate and key (PEM). Paths:

    /bytes/N    N zeros
    /echo       the content of the request
    /trailers   five bytes, then trailers
    /never      no answer
    /goaway     as /bytes/1000, but after TAKEN of these on a connection it says GOAWAY and ignores the rest

Prints "aioquic VERSION", then "port N"; for each line on its stdin "saw JSON", the number of requests that
came whole since the last time as "METHOD PATH BYTES", and those that were given up as "given up CODE". The
end of its stdin is its own.
"""

import asyncio
import json
import sys
from collections import Counter
from importlib.metadata import version

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StopSendingReceived

# What is answered on a connection before it says GOAWAY.
TAKEN = 20
# What is handed over at once, and what may wait: aioquic itself takes all it is given.
PIECE_BYTES = 256 << 10
WAITING_BYTES_MAX = 2 << 20

seen = Counter()


class Server(QuicConnectionProtocol):
    """HTTP/3 on one connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.requests = {}
        self.taken = 0
        self.is_over = False

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if isinstance(event, ConnectionTerminated):
            self.is_over = True
        if isinstance(event, StopSendingReceived):
            seen[f"given up {event.error_code:#x}"] += 1
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.http_event_received(http_event)

    def http_event_received(self, event):
        if isinstance(event, HeadersReceived):
            # Trailers say nothing here.
            self.requests.setdefault(event.stream_id, (dict(event.headers), bytearray()))
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id][1].extend(event.data)
        else:
            return
        if event.stream_ended:
            headers, content = self.requests.pop(event.stream_id)
            self.answer(event.stream_id, headers[b":method"], headers[b":path"].decode(), bytes(content))

    def answer(self, stream, method, path, content):
        if path == "/goaway":
            if self.taken >= TAKEN:
                return
            self.taken += 1
        seen[f"{method.decode()} {path} {len(content)}"] += 1
        if path == "/never":
            return
        trailers = None
        if path == "/trailers":
            content, trailers = b"hello", [(b"x-after", b"all")]
        elif path == "/goaway":
            content = bytes(1000)
        elif path.startswith("/bytes/"):
            content = int(path.removeprefix("/bytes/"))
        length = content if isinstance(content, int) else len(content)
        head = [(b":status", b"200"), (b"content-length", str(length).encode())]
        if method == b"HEAD":
            self.http.send_headers(stream, head, end_stream=True)
        elif isinstance(content, int):
            self.http.send_headers(stream, head)
            asyncio.ensure_future(self.send_zeros(stream, content))
        else:
            self.http.send_headers(stream, head)
            self.http.send_data(stream, content, end_stream=trailers is None)
            if trailers is not None:
                self.http.send_headers(stream, trailers, end_stream=True)
        if path == "/goaway" and self.taken == TAKEN:
            self.go_away(stream + 4)
        self.transmit()

    async def send_zeros(self, stream, left):
        while not self.is_over:
            piece = min(left, PIECE_BYTES)
            left -= piece
            self.http.send_data(stream, bytes(piece), end_stream=left == 0)
            self.transmit()
            if left == 0:
                return
            while not self.is_over and self.waiting(stream) > WAITING_BYTES_MAX:
                await asyncio.sleep(0.001)

    def waiting(self, stream):
        sender = self._quic._streams[stream].sender
        return sender._buffer_stop - sender._buffer_start

    def go_away(self, stream):
        """aioquic has no call for it."""
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(stream))
        self._quic.send_stream_data(self.http._local_control_stream_id, frame)


async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN, max_datagram_size=1452)
    configuration.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print("aioquic", version("aioquic"))
    print("port", server._transport.get_extra_info("sockname")[1], flush=True)
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        print("saw", json.dumps(seen), flush=True)
        seen.clear()
    server.close()


asyncio.run(main())
