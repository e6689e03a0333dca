"""client: libcurl asks our server for what its users would, over HTTP/3 alone.

Arguments: the port, the file of the certificate (DER), and the bytes of the long download. Prints
"ok NAME" for each thing that worked. curl sends no trailers with HTTP/3.
"""

import asyncio
import os
import ssl
import sys
import tempfile

import curl_cffi
from curl_cffi.const import CurlHttpVersion, CurlOpt
from curl_cffi.requests import AsyncSession
from curl_cffi.requests.exceptions import RequestException

HTTP_3 = 30


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Client:
    """A session that speaks HTTP/3, or fails."""

    def __init__(self, port, certificate):
        self.origin = f"https://localhost:{port}"
        self.certificate = certificate
        self.renew()

    def renew(self):
        """Forgets all connections."""
        self.session = AsyncSession(
            http_version=CurlHttpVersion.V3ONLY,
            verify=self.certificate,
            max_clients=110,
            timeout=300,
            # Else each request that finds no connection yet opens one of its own.
            curl_options={CurlOpt.PIPEWAIT: 1},
        )

    async def ask(self, method, path, **more):
        answer = await self.session.request(method, self.origin + path, **more)
        check(answer.http_version == HTTP_3, answer.http_version)
        return answer

    async def get(self, path, **more):
        return await self.ask("GET", path, **more)


async def get_and_head(client):
    answer = await client.get("/bytes/1024")
    check((answer.status_code, answer.content) == (200, bytes(1024)), answer)
    head = await client.ask("HEAD", "/bytes/1024")
    check((head.headers["content-length"], head.content) == ("1024", b""), head.headers)
    check((await client.get("/missing")).status_code == 404, "missing")


async def post_10_mb(client):
    content = bytes(range(256)) * (10_000_000 // 256)
    answer = await client.ask("POST", "/echo", data=content)
    check(answer.content == content, len(answer.content))


async def parallel_100(client):
    """On one connection: as many as it may have at once. A new one, as curl opens another where an
    old one has not been told yet that requests before are over."""
    await client.session.close()
    client.renew()
    answers = await asyncio.gather(*(client.get(f"/bytes/{n * 100}") for n in range(100)))
    for n, answer in enumerate(answers):
        check(len(answer.content) == n * 100, (n, len(answer.content)))
    ports = {answer.local_port for answer in answers}
    check(len(ports) == 1, ports)


async def download(client):
    wanted, came = int(sys.argv[3]), 0
    answer = await client.get(f"/bytes/{wanted}", stream=True)
    async for piece in answer.aiter_content():
        came += len(piece)
    check(came == wanted, came)
    await answer.aclose()


async def cancelled(client):
    answer = await client.get("/bytes/8589934592", stream=True)
    async for piece in answer.aiter_content():
        check(len(piece) > 0, "a piece")
        break
    answer.quit_now.set()
    await answer.aclose()
    check(len((await client.get("/bytes/5")).content) == 5, "after it")


async def go_away_during_load(client):
    """The test stops the server when it reads the line. What was begun by then is finished."""
    slow = asyncio.create_task(client.get("/delay/1s"))
    bulk = asyncio.create_task(client.get("/bytes/30000000"))
    await client.get("/delay/100ms")
    print("stop the server", flush=True)
    answered = 0
    try:
        while not (slow.done() and bulk.done()):
            check(len((await client.get("/bytes/1000")).content) == 1000, "load")
            answered += 1
    except RequestException as error:
        # A request after GOAWAY needs a new connection, and there is nobody any more.
        print(f"after GOAWAY: {error}")
    check((await slow).status_code == 200, "slow")
    check(len((await bulk).content) == 30000000, "bulk")
    print(f"{answered} requests were answered after the server was stopped")


async def main(port, certificate):
    print(f"curl_cffi {curl_cffi.__version__}: {curl_cffi.__curl_version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "certificate.pem")
        with open(certificate, "rb") as der, open(path, "w") as pem:
            pem.write(ssl.DER_cert_to_PEM_cert(der.read()))
        client = Client(port, path)
        steps = [get_and_head, post_10_mb, parallel_100, download, cancelled, go_away_during_load]
        for step in steps:
            await step(client)
            print(f"ok {step.__name__}", flush=True)
        await client.session.close()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
