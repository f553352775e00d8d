"""No change that a role can make leaves a figure silently wrong.

Each change of the catalogue (`changes/`) is applied to a fresh copy of a working installation; see
`examination.py` for what is then looked at. One PostgreSQL version has all of them, the oldest a
part. A change under `NOT_YET` must fail: when it no longer does, its mark has to go.
"""

from __future__ import annotations

from collections.abc import Iterator

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
                    yield pytest.param((version, bed), change, id=f"{change.name} ({version})")


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest, postgres_servers: Servers) -> Iterator[Original]:
    """A working installation of a bed, which each test copies."""
    version, bed = request.param
    with postgres_servers.fresh_database(version) as url, original(url, BEDS[bed]) as made:
        yield made


# Without a scope pytest takes that of the parameter that is no fixture: an installation per test.
@pytest.mark.parametrize(
    ("installation", "change"), [*_chosen()], indirect=["installation"], scope="module"
)
def test_a_change_leaves_nothing_silently_wrong(installation: Original, change: Change) -> None:
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
    "values are rewritten by a cast to the same type",
    "a function that a key is computed by is replaced",
    "a table with rows becomes a source's heir, and ceases to be",
    "a source is dropped and made anew",
    "a live view is replaced by one that says something else",
)


@pytest.mark.parametrize("installation", [(NEWEST, "sales")], indirect=True)
def test_the_catalogue_notices_where_nothing_is_reported(installation: Original) -> None:
    """With a status that says nothing each of these is called silently wrong."""
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
