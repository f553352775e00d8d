"""Writers, refreshes, rebuilds, verifies and live reads at once: no snapshot may be wrong.

More than 2,000 snapshots in all, over fourteen subjects, by `make test-slow`; a third of them where
all tests are run. Then the same with captures that are wrong on purpose: the same run must notice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine

from tests.concurrency.conftest import new_seed, share
from tests.concurrency.fediverse_writes import PROCESSED, REPLAYED, VERIFIED
from tests.concurrency.harness import INTERRUPTED, NotEnough, Plan, run
from tests.concurrency.server import for_sqlalchemy
from tests.concurrency.subjects import SUBJECTS
from tests.oracle import OracleViolation

SNAPSHOTS = {
    "media": 200,
    "partitioned media": 200,
    "tag hours": 200,
    "shelf": 120,
    "desk": 120,
    "bank": 150,
    "club": 150,
    "crossing": 150,
    "mart": 120,
    "gallery": 150,
    "partitioned gallery": 150,
    "fediverse": 150,
    "fediverse by hand": 120,
    "classroom": 150,
}
REFRESHES = share(60)
# Of a subject that has more to do than that.
FEWER_REFRESHES = share(30)
# Far more than it takes; that a slow machine sees enough matters more than when.
SECONDS = 120.0
# Sooner or later a wrong capture shows; a run that saw so much without noticing is blind.
BLIND_AFTER_SNAPSHOTS = 20_000

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


def prepared(database: Callable[[str], str], subject: str) -> str:
    """A database with the subject's tables and capture; its address."""
    url = database(subject)
    engine = create_engine(for_sqlalchemy(url))
    with engine.begin() as connection:
        SUBJECTS[subject].create(connection)
    engine.dispose()
    return url


def test_the_subjects_together_are_seen_in_at_least_two_thousand_snapshots() -> None:
    assert sum(SNAPSHOTS.values()) >= 2_000


@pytest.mark.parametrize("subject", SNAPSHOTS)
def test_no_snapshot_is_wrong_while_writers_refreshes_and_verifies_work(
    subject: str, database: Callable[[str], str]
) -> None:
    snapshots = share(SNAPSHOTS[subject])
    seen = run(
        Plan(
            subject=subject,
            url=prepared(database, subject),
            seed=new_seed(),
            snapshots=snapshots,
            refreshes=FEWER_REFRESHES if SUBJECTS[subject].keep_up else REFRESHES,
            seconds=SECONDS,
            kinds=_all_kinds(subject),
            at_least=_what_matters(snapshots),
        )
    )
    assert seen.counts["given up"] <= seen.counts["refreshes"] / 20, seen


def _what_matters(snapshots: int) -> dict[str, int]:
    """Snapshots prove little where nothing is pending, or nothing settled, or nothing refreshed.

    On a busy machine much is pending, and little settled, for most of the time: it goes on longer.
    """
    return {
        "snapshots with settled and pending keys": snapshots // 20,
        "snapshots while nothing is stale": snapshots // 2,
        "settled keys": snapshots // 4,
        **dict.fromkeys(("window rebuilds", "rebuilds", "verifies", "keys changed"), 1),
    }


def _all_kinds(subject: str) -> tuple[str, ...]:
    """What must have been written: each statement, in each kind of transaction, ended each way."""
    return (
        *((INTERRUPTED,) if SUBJECTS[subject].batch_rows else ()),
        *((PROCESSED, REPLAYED, VERIFIED) if SUBJECTS[subject].keep_up else ()),
        *(operation.name for operation in SUBJECTS[subject].operations),
        *("committed", "rolled back", "rolled back to a savepoint", "released a savepoint"),
        *("prepared", "commit prepared", "rollback prepared"),
        *("read committed", "repeatable read", "serializable", "as a replica", "long"),
    )


@pytest.mark.parametrize(
    "subject",
    [
        "media, blind to updates",
        "tag hours, joined in the trigger",
        "gallery, blind to tags",
        "gallery, blind to edited arrays",
        "classroom, blind to assignments",
        "fediverse, blind to changed posts",
    ],
)
def test_a_wrong_capture_makes_the_same_run_fail(
    subject: str, database: Callable[[str], str]
) -> None:
    plan = Plan(
        subject=subject,
        url=prepared(database, subject),
        seed=new_seed(),
        snapshots=BLIND_AFTER_SNAPSHOTS,
        refreshes=REFRESHES,
        seconds=SECONDS,
    )
    with pytest.raises(OracleViolation) as violation:
        run(plan)
    assert {"derived", "live"} & violation.value.kinds, violation.value


def test_a_cascade_that_is_not_made_good_makes_the_same_run_fail(
    database: Callable[[str], str],
) -> None:
    subject = "gallery, blind to cascades"
    plan = Plan(
        subject=subject,
        url=prepared(database, subject),
        seed=new_seed(),
        snapshots=BLIND_AFTER_SNAPSHOTS,
        refreshes=REFRESHES,
        seconds=SECONDS,
    )
    # Seen by an onlooker, or by a refresh that has to take a count from a user who is deleted.
    with pytest.raises(AssertionError, match="gen_source_stats") as failure:
        run(plan)
    assert not isinstance(failure.value, NotEnough)
