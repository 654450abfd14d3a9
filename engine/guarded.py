"""An HTTP transport that connects only where requests may go whose address a client has given."""

from __future__ import annotations

import ssl

import httpx

from runyard.engine.reach import Reach


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport that connects only where ``reach`` allows. One request for each connection: a connection to an
    address was verified for one name, and others may share the address."""

    def __init__(self, reach: Reach, context: ssl.SSLContext) -> None:
        self._reach = reach
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        *others, last = await self._reach.addresses(host, port)
        for address in others:
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent: the next may answer
                continue
        return await self._inner.handle_async_request(_pinned(request, host, last))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The same request to an address instead of a name, which stays in its Host header and in TLS."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
