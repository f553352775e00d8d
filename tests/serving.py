"""The service behind a real socket, in a thread of the test's own process, and data for it.

A socket and uvicorn, as in life, but the application is the test's to make: a system less, another
database, a clock. It listens on the loopback interface, at a port that the system chooses.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from sqlalchemy import Engine

from assets.classroom import demo as classroom_demo
from assets.fediverse import demo as fediverse_demo
from assets.fediverse.processing.batches import process
from assets.gallery import demo as gallery_demo
from assets.media import demo as media_demo
from tallykeeper import refresh
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tests import templates
from tests.servers import VERSIONS, Servers

START_SECONDS = 30


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Serve the application; returns its address, and ends it, whatever is still connected."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < until, "the service did not start in time"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        listening.close()


def empty(engine: Engine) -> None:
    """Every system's tables, with capture and live views, and nothing in them."""
    templates.migrated(engine, *all_systems())


@contextmanager
def filled(servers: Servers) -> Iterator[Engine]:
    """A database of its own with what `fill` makes."""
    with servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        templates.fill(engine, "served", fill)
        yield engine
        engine.dispose()


def fill(engine: Engine, files: int = 2_000) -> None:
    """Every system with a little made-up data; built, and then changed, so that some is pending."""
    empty(engine)
    media_demo.create_demo(engine, files)
    gallery_demo.create_demo(engine, 2_000)
    fediverse_demo.create_demo(engine, 6_000)
    classroom_demo.create_demo(engine, 2_000)
    process(engine)
    for system in all_systems():
        for tally in system.tallies:
            refresh(engine, tally)
    media_demo.change_demo(engine)
    gallery_demo.change_demo(engine)
    classroom_demo.change_demo(engine)
