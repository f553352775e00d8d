"""Asks the service in process: the whole application, but no socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Client:
    """Sends single requests to an ASGI application; an exception in it is raised here.

    Unless `raises` is false: then the answer is what a client would get.
    """

    def __init__(self, app: Any, raises: bool = True) -> None:
        self._app = app
        self._raises = raises

    def get(self, address: str, **options: Any) -> httpx.Response:
        return self.request("GET", address, **options)

    def post(self, address: str, **options: Any) -> httpx.Response:
        return self.request("POST", address, **options)

    def request(self, method: str, address: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, self._raises)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, address, **options)

        return asyncio.run(send())
