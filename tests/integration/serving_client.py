"""Asks the service in process: the whole application, but no socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Client:
    """Sends single requests to an ASGI application; an exception in it is raised here."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, address: str, **options: Any) -> httpx.Response:
        return self.request("GET", address, **options)

    def post(self, address: str, **options: Any) -> httpx.Response:
        return self.request("POST", address, **options)

    def request(self, method: str, address: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, address, **options)

        return asyncio.run(send())
