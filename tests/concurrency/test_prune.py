"""Pruning under writers, refreshes, rebuilds and verifies; its process or session killed any time.

The rows that it deletes, and what groups held that lost some, are kept elsewhere by a trigger.
Invariant: in every snapshot each live view is what its SELECT returns of the rows that are there
and of those that were pruned, or what a group held when it lost rows; and a verify finds nothing
wrong.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests import frozen_store, pruned_store
from tests.concurrency.conftest import share
from tests.concurrency.prune_scene import SALES, Scene, Store

SNAPSHOTS = share(500)
RETURNS = (
    "INSERT INTO store.returns VALUES ({n}, {few} % 4, 3) ON CONFLICT (id) DO UPDATE SET cents = 5",
    "DELETE FROM store.returns WHERE id % 40 = {few}",
)
SHOPS = (
    "INSERT INTO store.shops VALUES ({few}, 'west') ON CONFLICT (shop) DO UPDATE SET region = NULL",
    "UPDATE store.shops SET region = 'east' WHERE shop = {few} % 5",
)
NOTES = (
    "INSERT INTO store.notes SELECT {n}, {few}, max(id) FROM store.sales WHERE id <= {n}"
    " ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, sale = excluded.sale",
    "UPDATE store.notes SET mark = mark + 1 WHERE id % 40 = {few}",
    "DELETE FROM store.notes WHERE id % 40 = {few}",
)
CASCADES = Store(
    pruned_store.system_with_notes,
    pruned_store.install_with_notes,
    pruned_store.wrong,
    (*SALES, *RETURNS, *NOTES),
)
SUMS = Store(pruned_store.system, pruned_store.install, pruned_store.wrong, (*SALES, *RETURNS))
# Groups of days that are never pruned go on.
GROUPS = Store(
    frozen_store.system,
    frozen_store.install,
    frozen_store.wrong,
    (*SALES, *SHOPS),
    freeze=True,
    latest_day=15,
)

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


@pytest.mark.parametrize(
    "store", [SUMS, GROUPS, CASCADES], ids=["sums", "groups", "what goes with rows"]
)
def test_every_snapshot_is_right_whatever_is_killed(engine: Engine, store: Store) -> None:
    Scene(engine, store, SNAPSHOTS).run()
