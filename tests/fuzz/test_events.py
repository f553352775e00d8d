"""Files of fediverse events, as no server should send them: loaded, processed, and once more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from assets.fediverse.load import load_fediverse
from assets.fediverse.processing.batches import process
from assets.fediverse.tallies import system
from tallykeeper.database.connections import open_engine
from tallykeeper.input.loading import Loaded
from tests.fuzz.accounts import contents, loaded, put
from tests.fuzz.files import File, json_lines, json_values, mostly, odd_texts
from tests.fuzz.profile import examples
from tests.integration.support import create, execute, scalar
from tests.servers import VERSIONS, Servers

LOG = "fediverse.stream_events"
# All that follows from the log and says what posts are; without when and by which event.
PROCESSED = ("fediverse.mastodon_posts", "fediverse.post_versions", "fediverse.hashtags")
WHEN = (
    "id",
    "first_event_id",
    "last_event_id",
    "last_seen_at",
    "updated_at",
    "processed_at",
)


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    """A database with an empty log."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        yield engine
        engine.dispose()


_ids = st.sampled_from(["1", "2", "109348290348", "AbC9xYz", 3])
_times = st.sampled_from(["2025-01-14T18:31:30Z", "2025-01-14T18:31:30.123Z", "2025-01-15"])
_counts = st.integers(0, 5)
_tags = st.lists(st.fixed_dictionaries({"name": st.sampled_from(["cats", "Cats", "ß"])}))
_accounts = st.fixed_dictionaries(
    {"id": _ids, "acct": st.sampled_from(["ann", "bob@b.example"]), "statuses_count": _counts}
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": _ids,
    "created_at": _times,
    "edited_at": _times | st.none(),
    "content": st.sampled_from(["<p>a</p>", "b"]),
    "visibility": st.sampled_from(["public", "private"]),
    "account": _accounts,
    "in_reply_to_id": _ids | st.none(),
    "tags": _tags,
    "mentions": st.just([]),
    "media_attachments": st.just([]),
    "replies_count": _counts,
    "reblogs_count": _counts,
    "favourites_count": _counts,
}


def _with_odd(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    odd = st.dictionaries(st.sampled_from(list(fields)), json_values(), min_size=1, max_size=2)
    good = st.fixed_dictionaries(fields)
    return mostly(good, st.builds(lambda row, other: {**row, **other}, good, odd), 5)


_statuses = _with_odd(_FIELDS)
_as_text = _statuses.map(json.dumps)
_received = mostly(
    st.sampled_from(["2025-01-14T18:32:00Z", "2025-01-15T00:00:00Z", None]),
    st.sampled_from(["2009-12-31", "2200-01-01"]),
)
_events = _with_odd(
    {
        "event": st.sampled_from(["update", "status.update", "delete", "filters_changed"]),
        "payload": mostly(_statuses | _as_text | _ids, odd_texts),
        "received_at": _received,
        "host": st.sampled_from(["a.example", "b.example", None]),
    }
)
_histories = _with_odd(
    {
        "status_id": _ids,
        "history": st.lists(_with_odd({n: _FIELDS[n] for n in ("content", "created_at")})),
    }
)
_boxed = st.fixed_dictionaries({"status": _statuses, "received_at": _received})
_objects = mostly(_statuses | _events | _histories | _boxed, json_values(), 12)


@given(json_lines(_objects, (".jsonl", ".jsonl.gz", ".ndjson")), st.booleans())
@examples(20)
def test_a_file_of_events(database: Engine, tmp_path: Path, file: File, by_host: bool) -> None:
    _empty(database)
    path = put(tmp_path, file)

    def load(path: Path) -> Loaded:
        return load_fediverse(database, path, instance="https://home.example", by_host=by_host)

    first = loaded(load, path)
    if first is not None:
        assert first.inserted == scalar(database, f"SELECT count(*) FROM {LOG}")
        if file.rows is not None:
            assert first.read == file.rows
    _process(database)
    stored = contents(database, PROCESSED, WHEN)
    again = loaded(load, path)
    assert (again is None) == (first is None)
    if first is not None and again is not None:
        assert (again.inserted, again.rejected) == (first.inserted, first.rejected)
    _process(database)
    assert contents(database, PROCESSED, WHEN) == stored


def _process(database: Engine) -> None:
    process(database)
    assert scalar(database, f"SELECT count(*) FROM {LOG} WHERE processed_at IS NULL") == 0


def _empty(database: Engine) -> None:
    found = ", ".join(t.fullname for t in system.metadata.sorted_tables if t.name != "instances")
    execute(
        database,
        "SET LOCAL client_min_messages = error",
        f"TRUNCATE {found} CASCADE",
        "DELETE FROM tallykeeper.fediverse_log",
        "INSERT INTO tallykeeper.fediverse_log DEFAULT VALUES",
    )
