"""The declaration that the database knows of a tally, against the one in this code.

A write of a derived table adopts the declaration first, and makes sure of it again in the
transaction that writes: two versions of the code must not write one table by turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import presence, state
from tallykeeper.catalog.privileges import act_as_owner, require_privileges
from tallykeeper.catalog.state import Installed
from tallykeeper.catalog.transactions import retried, wanted_for_installing, writing
from tallykeeper.database.sessions import begin_work
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import NotInstalled, NotPermitted, TallyBusy
from tallykeeper.installation import roles
from tallykeeper.installation.install import INSTALL_KEY, install

T = TypeVar("T")


class OtherDeclaration(TallyBusy):
    """The database knows another declaration of the tally than this code."""


def writing_as_declared(
    engine: Engine, tally: Tally, work: Callable[[Connection, Installed], T]
) -> T:
    """Do `work` as `transactions.writing` does, under the declaration of this code.

    Where the database knows another one it is adopted first. Raises NotInstalled, NotPermitted,
    TallyBusy, or what `work` raises.
    """

    def checked(connection: Connection) -> T:
        return work(connection, require_same_declaration(connection, tally))

    try:
        return writing(engine, tally, checked)
    except (OtherDeclaration, NotInstalled, DBAPIError):
        # The tables of another declaration may be others, too.
        if not adopt_declaration(engine, tally):
            raise
    return writing(engine, tally, checked)


def adopt_declaration(engine: Engine, tally: Tally) -> bool:
    """Install the tally anew where its declaration changed, which marks it stale.

    Returns whether it did. Raises NotInstalled where it never was, NotPermitted where this role
    may not.
    """
    with engine.connect() as connection:
        installed = state.installed(connection, tally)
    if installed is None:
        raise NotInstalled(f"{tally.name} is not installed in this database; run `tally migrate`")
    if installed.declaration_hash == tally.declaration_hash():
        return False
    if tally.kind == "select":
        # It has to be compiled, and its table may have other columns.
        raise NotInstalled(f"{tally.name}: its declaration changed; run `tally migrate`")

    def adopt() -> None:
        with engine.begin() as connection:
            begin_work(connection)
            act_as_owner(connection)
            _require_privileges(connection, tally)
            install(connection, _kept(connection, tally))
            roles.keep(connection, tally.siblings)

    wanted = [w for t in tally.siblings for w in wanted_for_installing(t)]
    retried(adopt, tally.name, engine, wanted, INSTALL_KEY)
    return True


def _kept(connection: Connection, tally: Tally) -> list[Tally]:
    """The tallies over its sources that have theirs. It itself is asked for, whatever it lacks."""
    without = presence.left_out(connection, tally.siblings)
    kept = [each for each in tally.siblings if each is tally or each not in without]
    return state.bound(connection, kept)


def _require_privileges(connection: Connection, tally: Tally) -> None:
    try:
        require_privileges(connection, tally.siblings)
    except NotPermitted as error:
        raise NotPermitted(
            f"{tally.name}: its declaration changed, so `tally migrate` has to install it anew;"
            f" but {error}"
        ) from error


def require_same_declaration(connection: Connection, tally: Tally) -> Installed:
    """What is installed; raises OtherDeclaration where that is another declaration."""
    installed = state.installed(connection, tally)
    if installed is None or installed.declaration_hash != tally.declaration_hash():
        raise OtherDeclaration(
            f"{tally.name}: another process has installed another declaration of it just now;"
            " nothing was changed. Run only one version of the code against a database"
        )
    return installed
