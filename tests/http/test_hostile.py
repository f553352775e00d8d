"""What the service does where clients mean harm: over real sockets.

Whatever is asked is an answer, a problem with a status that the OpenAPI document has, or a refusal
of what is no HTTP; nothing in a parameter becomes SQL or a header, and who is slow holds up nobody
but himself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import Engine

from tallykeeper.http.app import create_app
from tests import serving
from tests.integration.serving_socket import (
    Answer,
    ask,
    asked_once,
    client,
    connected,
    require_problem,
)
from tests.integration.support import rows
from tests.servers import Servers

encoded = partial(quote, safe="")
# Percent-encoded as they are sent, so that what no text can hold is among them.
HOSTILE = [
    encoded("' OR '1'='1"),
    encoded("'; DROP TABLE media.media_files; --"),
    encoded("1); SELECT pg_sleep(30); --"),
    encoded("' UNION ALL SELECT version(), 1, 1 --"),
    encoded("$$; COMMIT; CREATE TABLE public.owned (); $$"),
    encoded("%(name)s %s :name {0} ${7*7} {{7*7}}"),
    encoded("\\'; SELECT 1; --"),
    encoded("x\r\nX-Injected: yes\r\n\r\nHTTP/1.1 200 OK"),
    encoded("\n"),
    "%00",
    "a%00b",
    "%ff%fe",
    "%ed%a0%80",
    encoded("\u202etxt.exe\u200b\ufeff"),
    encoded("e\u0301\U0001f469\u200d\U0001f4bb" * 20),
    encoded("٣"),
    encoded("１"),
    encoded("9" * 5_000),
    "-" + "9" * 30,
    "1e400",
    "NaN",
    "-0",
    "0x10",
    "1_000",
    "+1",
    encoded("../../../../etc/passwd"),
    encoded("%_\\%"),
    encoded("a" * 8_000),
    encoded("9999-12-31T23:59:59.999999-23:59"),
    encoded("0001-01-01T00:00:00+23:59"),
    encoded("2025-02-30"),
    encoded("infinity"),
    encoded("user-regular," * 500),
    encoded("[]{}<script>alert(1)</script>"),
    "",
]
TRUTH = "SELECT count(*), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_roles) FROM {}"


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with serving.filled(postgres_servers) as engine:
        yield engine


@pytest.fixture(scope="module")
def base(database: Engine) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLY_DATABASE_URL", database.url.render_as_string(hide_password=False))
        with serving.served(create_app()) as address:
            yield address


def operations(base: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each."""
    paths = asked_once(base, "/openapi.json").json["paths"]
    return [
        (method.upper(), path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


def require_documented(answer: Answer, operation: dict[str, Any], what: str) -> None:
    """An answer or a problem that the document has, and nothing of a server's inside."""
    assert str(answer.status) in operation["responses"], f"{what}: {answer}"
    assert answer.status < 500, f"{what}: {answer}"
    assert "x-injected" not in answer.headers, what
    if answer.status >= 400:
        require_problem(answer)
    for inside in (b"Traceback", b"psycopg", b"sqlalchemy", b"[SQL"):
        assert inside not in answer.body, f"{what}: {answer.body!r}"


def addresses(path: str, parameters: Sequence[dict[str, Any]], hostile: str) -> Iterator[str]:
    """The address with the hostile text in one parameter at a time, the others as they should."""
    right = {p["name"]: RIGHT.get(p["name"], "1") for p in parameters if p["required"]}
    for parameter in parameters:
        name = parameter["name"]
        given = {**{key: quote(value) for key, value in right.items()}, name: hostile}
        place = path
        for each in parameters:
            if each["in"] == "path":
                place = place.replace(f"{{{each['name']}}}", given.pop(each["name"]))
        yield f"{place}?" + "&".join(f"{key}={value}" for key, value in given.items())
    # A parameter that there is not.
    yield f"{path}?{hostile}=1"


def leads_elsewhere(address: str) -> bool:
    """Whether a slash, or nothing, in place of a name makes it an address that there is not."""
    path = address.partition("?")[0]
    return "//" in path or "%2F" in path


RIGHT = {"day": "2025-11-20", "ids": "1,2", "start": "2025-11-01", "name": "sea"}
RIGHT |= {"system": "gallery", "table": "content_tags"}


def test_what_a_parameter_says_is_never_run_as_sql_nor_sent_as_a_header(
    base: str, database: Engine
) -> None:
    before = rows(database, TRUTH.format("media.media_files"))
    asked = 0
    with client(base) as connection:
        for method, path, operation in operations(base):
            parameters = operation.get("parameters", [])
            for hostile in HOSTILE if parameters else HOSTILE[:3]:
                for address in addresses(path, parameters, hostile):
                    answer = ask(connection, address, method)
                    asked += 1
                    if leads_elsewhere(address):
                        assert answer.status in (404, 422)
                        require_problem(answer)
                    else:
                        require_documented(answer, operation, f"{method} {address}")
    assert asked > 1_000
    assert rows(database, TRUTH.format("media.media_files")) == before


def test_text_is_looked_for_as_it_stands(base: str) -> None:
    everything = asked_once(base, "/api/v1/tags?limit=1000").json["tags"]
    assert everything
    for hostile in ("' OR '1'='1", "%", "_", "\\", "%' --"):
        found = asked_once(
            base, f"/api/tallies/gallery/content_tags?content_source={quote(hostile)}"
        )
        assert found.json["rows"] == []
        found = asked_once(base, "/api/v1/tags?" + urlencode({"prefix": hostile}))
        assert found.json["tags"] == [t for t in everything if t["name"].startswith(hostile)]
        found = asked_once(base, "/api/v1/content/unified?" + urlencode({"tag_names": hostile}))
        assert found.status == 422 or found.json["items"] == []


@pytest.mark.parametrize(
    "value", ["*", '"', '"' * 5_000, 'W/"' + "a" * 8_000, "\x7f\xff", ", , ,", "'; DROP TABLE x"]
)
def test_an_odd_entity_tag_matches_nothing(base: str, value: str) -> None:
    answer = asked_once(base, "/api/media/daily-counts", headers={"If-None-Match": value})
    assert answer.status in ((200, 304) if value == "*" else (200, 400))


def test_a_cursor_that_was_tampered_with_is_a_problem(base: str) -> None:
    address = "/api/v1/content/unified?page_size=5"
    first = asked_once(base, address).json
    cursor = first["next_cursor"]
    right = asked_once(base, f"{address}&cursor={cursor}").json["items"]
    assert right
    changed = [cursor[:n] + other + cursor[n + 1 :] for n in range(len(cursor)) for other in "A_"]
    changed += [cursor[:n] for n in range(1, len(cursor), 7)]
    changed += [cursor + "A", cursor * 2, cursor[::-1], "=" * 10, "A" * 5_000, "bnVsbA", "W10"]
    refused = 0
    with client(base) as connection:
        for each in changed:
            answer = ask(connection, f"{address}&cursor={quote(each)}")
            if answer.status == 200:
                # Bits that base64 has no use for.
                assert answer.json["items"] == right, each
            else:
                assert answer.status == 422
                assert "cursor" in require_problem(answer)["detail"]
                refused += 1
        other = ask(connection, f"{address}&cursor={cursor}&private=false")
        assert other.status == 422
    assert refused > 0.9 * len(changed)


@pytest.mark.parametrize(
    "query",
    [
        "/api/v1/content/unified?page_size=1001",
        "/api/v1/content/unified?" + "&".join(f"tag_names=t{n}" for n in range(101)),
        "/api/v1/tags?limit=1001",
        "/api/v1/tags?prefix=" + "a" * 501,
        "/api/courses/counts?ids=" + ",".join(map(str, range(1_001))),
        "/api/tallies/gallery/content_tags?" + "&".join(f"content_id={n}" for n in range(1_001)),
        "/api/tallies/gallery/content_tags?limit=10001",
        "/api/courses/counts?" + "&".join(f"ids={n}" for n in range(1_001)),
        "/api/users/9223372036854775808/counts",
        "/api/media/daily-counts?" + "&".join(f"x{n}=1" for n in range(5_000)),
        "/api/media/daily-counts?start=2025-01-01&start=2025-01-02",
        "/api/media/daily-counts?start=2025-01-02&end=2025-01-01",
        "/api/media/hourly-counts?day=20251120",
    ],
)
def test_too_much_and_what_goes_not_together_is_refused(base: str, query: str) -> None:
    answer = asked_once(base, query)
    assert answer.status == 422
    require_problem(answer)


def test_what_is_no_question_is_refused_and_the_next_one_answered(base: str) -> None:
    longest = "/api/media/daily-counts?start=" + "a" * 200_000
    for send in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/media/daily-counts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        f"GET {longest} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    ):
        with connected(base) as raw:
            raw.sendall(send)
            raw.shutdown(socket.SHUT_WR)
            status = raw.recv(100_000).split(b"\r\n")[0]
            assert b" 5" not in status[:12], (send[:100], status)
        assert asked_once(base, "/health").status == 200
    body = b"x" * 3_000_000
    with client(base) as connection:
        answer = ask(connection, "/api/media/daily-counts", headers={"X": "y"}, body=body)
        assert answer.status == 200


def test_clients_that_are_slow_hold_up_nobody(base: str) -> None:
    question = b"GET /api/media/daily-counts HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(base)) for _ in range(150)]
        slow, deaf = idle[:50], idle[50:60]
        for raw in deaf:
            # They ask and ask, and never read an answer.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            raw.sendall(question * 20)
        for place in range(len(question)):
            for raw in slow:
                raw.sendall(question[place : place + 1])
            if place % 10 == 0:
                assert asked_once(base, "/api/media/daily-counts").status == 200
                assert asked_once(base, "/health").status == 200
        for raw in slow:
            assert raw.recv(20).startswith(b"HTTP/1.1 200")


def test_tables_that_are_locked_are_said_to_be_busy_and_the_service_lives_on(
    base: str, database: Engine
) -> None:
    with database.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("LOCK TABLE media.daily_contributions")
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(asked_once, base, "/api/media/daily-counts") for _ in range(8)]
            assert asked_once(base, "/health").status == 200
            for answer in [future.result() for future in waiting]:
                assert answer.status == 503
                assert require_problem(answer)["type"].endswith((":busy", ":too-slow"))
                assert int(answer.headers["retry-after"]) > 0
        transaction.rollback()
    assert asked_once(base, "/api/media/daily-counts").status == 200
