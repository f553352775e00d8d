"""No change that a role can make leaves a figure silently wrong.

Each change of the catalogue (`changes/`) is applied to a fresh copy of a working installation; see
`examination.py` for what is then looked at. One PostgreSQL version has all of them, the oldest a
part. A change under `NOT_YET` must fail: when it no longer does, its mark has to go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.catalogue.__main__ import PAGE, page
from tests.catalogue.beds import BEDS
from tests.catalogue.change import OUTCOMES, Change
from tests.catalogue.changes import ALL, GROUPS
from tests.catalogue.examination import Original, Seen, examine, judge, original
from tests.catalogue.not_yet import NOT_YET
from tests.servers import VERSIONS, Servers

NEWEST, OLDEST = VERSIONS[0], VERSIONS[-1]


def _chosen() -> Iterator[pytest.ParameterSet]:
    """By version and database, so that each installation is made once."""
    for version in (NEWEST, OLDEST):
        for bed in BEDS:
            for change in ALL:
                chosen = version == NEWEST or change.everywhere
                if chosen and change.bed == bed and change.since <= version <= change.until:
                    yield pytest.param(version, change, id=f"{change.name} ({version})")


class Installations:
    """A working installation of a bed, which tests copy: the last one asked for is kept.

    No fixture with a parameter, for pytest would sort the tests by the changes, and not by these.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._open = ExitStack()
        self._last: tuple[tuple[int, str], Original] | None = None
        self.made = 0

    def of(self, version: int, bed: str) -> Original:
        if self._last is None or self._last[0] != (version, bed):
            self.close()
            url = self._open.enter_context(self._servers.fresh_database(version))
            self._last = (version, bed), self._open.enter_context(original(url, BEDS[bed]))
            self.made += 1
        return self._last[1]

    def close(self) -> None:
        self._last = None
        self._open.close()


@pytest.fixture(scope="module")
def installations(postgres_servers: Servers) -> Iterator[Installations]:
    made = Installations(postgres_servers)
    yield made
    made.close()


@pytest.mark.parametrize(("version", "change"), [*_chosen()])
def test_a_change_leaves_nothing_silently_wrong(
    installations: Installations, version: int, change: Change
) -> None:
    installation = installations.of(version, change.bed)
    problems = judge(change, examine(installation, change))
    if change.name in NOT_YET:
        assert problems, f"{change.name}: all is well now, so take its mark out of `not_yet.py`"
        pytest.xfail(NOT_YET[change.name])
    assert not problems, "\n".join([change.name, *problems])


# Of one kind each; what is done to them nothing may say to be right.
BLINDED = (
    "all triggers of a source are disabled",
    "a trigger is dropped",
    "a capture function does nothing",
    "text is cut to a length",
    "a function that a key is computed by is replaced",
    "a table with rows becomes a source's heir, and ceases to be",
    "a source is dropped and made anew",
    "a live view is replaced by one that says something else",
)


def test_the_catalogue_notices_where_nothing_is_reported(installations: Installations) -> None:
    """With a status that says nothing each of these is called silently wrong."""
    assert installations.made <= 2 * len(BEDS), "each is made once"
    installation = installations.of(NEWEST, "sales")
    for change in ALL:
        if change.name in BLINDED:
            seen = examine(installation, change)
            blind = Seen(readings=seen.readings)
            assert blind.silently_wrong(), change.name
            assert judge(change, blind), change.name


def test_the_catalogue_is_large_and_each_change_says_what_it_expects() -> None:
    names = [change.name for change in ALL]
    assert len(names) == len(set(names)) >= 110
    assert set(NOT_YET) <= set(names)
    assert set(BLINDED) <= set(names)
    assert {change.outcome for change in ALL} == set(OUTCOMES)
    for change in ALL:
        needs_a_reason = change.outcome == "audited" or change.breaks_writes
        assert bool(change.because) == needs_a_reason, change.name
        needs_words = change.outcome in {"named", "refused", "blocked"}
        assert bool(change.says) == needs_words, change.name
    assert all(GROUPS.values())


def test_the_documentation_lists_the_catalogue() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.catalogue`, and commit the page"
