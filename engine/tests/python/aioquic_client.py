"""client: aioquic asks our server for what its users would, and says what went wrong.

Arguments: the port, the file of the certificate (DER), and the bytes of the long download. Prints
"ok NAME" for each thing that worked.
"""

import asyncio
import ssl
import sys
from importlib.metadata import version

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StreamReset

PIECE = 1 << 16


class Client(QuicConnectionProtocol):
    """HTTP/3 on one connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.answers = {}
        self.waiters = {}
        self.first_bytes = {}
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event.error_code)
            for stream in self.waiters:
                self.done(stream, f"closed {event.error_code:#x}: {event.reason_phrase}")
        if isinstance(event, StreamReset):
            self.done(event.stream_id, f"reset {event.error_code:#x}")
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.http_event_received(http_event)

    def http_event_received(self, event):
        if not isinstance(event, (HeadersReceived, DataReceived)):
            return
        answer = self.answers.get(event.stream_id)
        if answer is None:
            return
        if isinstance(event, DataReceived):
            answer["bytes"] += len(event.data)
            if answer["keep"]:
                answer["content"] += event.data
            first = self.first_bytes.pop(event.stream_id, None)
            if first is not None:
                first.set_result(None)
        elif answer["headers"] is None:
            answer["headers"] = dict(event.headers)
        else:
            answer["trailers"] = dict(event.headers)
        if event.stream_ended:
            self.done(event.stream_id, None)

    def done(self, stream, error):
        waiter = self.waiters.get(stream)
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(self.answers.pop(stream))
            else:
                waiter.set_exception(RuntimeError(error))

    def begin(self, method, path, headers=(), end=True, keep=True):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = {
            "headers": None, "content": bytearray(), "bytes": 0, "trailers": None, "keep": keep,
        }
        self.waiters[stream] = asyncio.get_running_loop().create_future()
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        self.http.send_headers(stream, pseudo + list(headers), end_stream=end)
        self.transmit()
        return stream

    async def answer(self, stream):
        try:
            return await asyncio.wait_for(self.waiters[stream], 900)
        finally:
            del self.waiters[stream]

    async def get(self, path, method="GET", headers=(), keep=True):
        return await self.answer(self.begin(method, path, headers, keep=keep))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


async def get_and_head(client):
    answer = await client.get("/bytes/1024")
    check(answer["headers"][b":status"] == b"200", answer["headers"])
    check(answer["content"] == bytes(1024), len(answer["content"]))
    # aioquic 1.7 takes a response to HEAD with any other length for malformed.
    head = await client.get("/bytes/0", method="HEAD")
    check(head["headers"][b"content-length"] == b"0", head["headers"])
    check(head["bytes"] == 0, head)
    missing = await client.get("/missing")
    check(missing["headers"][b":status"] == b"404", missing["headers"])


async def post_10_mb(client):
    content = bytes(range(256)) * (10_000_000 // 256)
    stream = client.begin("POST", "/echo", end=False)
    answer = client.answers[stream]
    # In pieces: aioquic moves all that is not acknowledged with each acknowledgement.
    for at in range(0, len(content), PIECE):
        client.http.send_data(stream, content[at : at + PIECE], end_stream=False)
        client.transmit()
        while at - answer["bytes"] > 4 * PIECE:
            await asyncio.sleep(0.001)
    client.http.send_data(stream, b"", end_stream=True)
    client.transmit()
    await client.answer(stream)
    check(answer["content"] == content, answer["bytes"])


async def trailers(client):
    stream = client.begin("POST", "/echo", end=False)
    client.http.send_data(stream, b"content", end_stream=False)
    client.http.send_headers(stream, [(b"x-checksum", b"12345")], end_stream=True)
    client.transmit()
    answer = await client.answer(stream)
    check(answer["content"] == b"content", answer)
    check(answer["trailers"] == {b"x-checksum": b"12345"}, answer["trailers"])


async def parallel_100(client):
    streams = [client.begin("GET", f"/bytes/{n * 100}") for n in range(100)]
    for n, stream in enumerate(streams):
        answer = await client.answer(stream)
        check(answer["bytes"] == n * 100, (n, answer["bytes"]))


async def download(client):
    wanted = int(sys.argv[3])
    answer = await client.get(f"/bytes/{wanted}", keep=False)
    check(answer["bytes"] == wanted, answer["bytes"])


async def cancelled(client):
    stream = client.begin("GET", f"/bytes/{1 << 33}", keep=False)
    first = asyncio.get_running_loop().create_future()
    client.first_bytes[stream] = first
    await asyncio.wait_for(first, 60)
    client._quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
    client.transmit()
    try:
        await client.answer(stream)
    except RuntimeError as error:
        check(str(error) == "reset 0x10c", error)
    answer = await client.get("/bytes/5")
    check(answer["bytes"] == 5, answer)


async def go_away_during_load(client):
    """The test stops the server when it reads the line. What was begun by then is finished."""
    slow = client.begin("GET", "/delay/1s")
    bulk = client.begin("GET", "/bytes/5000000", keep=False)
    await client.get("/bytes/1000")
    print("stop the server", flush=True)
    answered = 0
    while not client.ended.done():
        try:
            answer = await client.get("/bytes/1000")
        except RuntimeError as error:
            # Came too late, and may be tried again elsewhere.
            rejected = f"reset {ErrorCode.H3_REQUEST_REJECTED:#x}"
            check(str(error) == rejected or client.ended.done(), error)
            break
        check(answer["bytes"] == 1000, answer)
        answered += 1
    answer = await client.answer(slow)
    check(answer["headers"][b":status"] == b"200", answer)
    answer = await client.answer(bulk)
    check(answer["bytes"] == 5000000, answer["bytes"])
    code = await asyncio.wait_for(client.ended, 30)
    check(code == ErrorCode.H3_NO_ERROR, code)
    print(f"{answered} requests were answered after the server was stopped")


async def main(port, certificate):
    print(f"aioquic {version('aioquic')}, Python {sys.version.split()[0]}", flush=True)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    with open(certificate, "rb") as file:
        pem = ssl.DER_cert_to_PEM_cert(file.read())
    configuration.load_verify_locations(cadata=pem.encode())
    configuration.server_name = "localhost"
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Client
    ) as client:
        steps = [
            get_and_head,
            post_10_mb,
            trailers,
            parallel_100,
            download,
            cancelled,
            go_away_during_load,
        ]
        for step in steps:
            await step(client)
            print(f"ok {step.__name__}", flush=True)


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
