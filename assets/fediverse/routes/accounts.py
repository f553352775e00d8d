"""The fediverse's accounts over HTTP: who follows whom."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from assets.fediverse import reads
from assets.fediverse.processing.functions import LONGEST_ID
from assets.fediverse.routes import shapes
from assets.fediverse.routes.parameters import Instance, Limit
from tallykeeper.http.database import Snapshots

AccountId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID)]


def add_accounts(routes: APIRouter, ask: Snapshots) -> None:
    """Add the questions about accounts to the routes."""

    @routes.get("/api/accounts/{id}/followers", response_model=shapes.Follows)
    def followers(
        request: Request,
        id: AccountId,  # noqa: A002 -- as in the address
        instance: Instance,
        limit: Limit = 100,
    ) -> Response:
        """Who follows the account, as far as events say, the latest first; no entity tag."""

        def read(connection: Connection) -> dict[str, Any]:
            return {"accounts": reads.followers(connection, instance, id, limit=limit)}

        return ask.answer(request, read)

    @routes.get("/api/accounts/{id}/following", response_model=shapes.Follows)
    def following(
        request: Request,
        id: AccountId,  # noqa: A002
        instance: Instance,
        limit: Limit = 100,
    ) -> Response:
        """Whom the account follows, as far as events say, the latest first; no entity tag."""

        def read(connection: Connection) -> dict[str, Any]:
            return {"accounts": reads.following(connection, instance, id, limit=limit)}

        return ask.answer(request, read)
