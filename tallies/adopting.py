"""The declaration that the database knows of a tally, against the one in this code.

Whoever writes a derived table adopts the declaration first, and makes sure of it again in the
transaction that writes: two versions of the code must not write one table by turns.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine

from tallies import presence, roles, state
from tallies.errors import NotInstalled, NotPermitted, TallyBusy
from tallies.install import INSTALL_KEY, install
from tallies.privileges import act_as_owner, require_privileges
from tallies.sessions import begin_work
from tallies.tally import Tally
from tallies.transactions import retried, wanted_for_installing


def adopt_declaration(engine: Engine, tally: Tally) -> None:
    """Install the tally anew where its declaration changed, which marks it stale.

    Raises NotInstalled where it never was, NotPermitted where this role may not.
    """
    with engine.connect() as connection:
        installed = state.installed(connection, tally)
    if installed is None:
        raise NotInstalled(f"{tally.name} is not installed in this database; run `tally migrate`")
    if installed.declaration_hash == tally.declaration_hash():
        return

    def adopt() -> None:
        with engine.begin() as connection:
            begin_work(connection)
            act_as_owner(connection)
            _require_privileges(connection, tally)
            install(connection, _kept(connection, tally))
            roles.keep(connection, tally.siblings)

    wanted = [w for t in tally.siblings for w in wanted_for_installing(t)]
    retried(adopt, tally.name, engine, wanted, INSTALL_KEY)


def _kept(connection: Connection, tally: Tally) -> list[Tally]:
    """The tallies over its sources that have theirs. It itself is asked for, whatever it lacks."""
    without = presence.left_out(connection, tally.siblings)
    return [each for each in tally.siblings if each is tally or each not in without]


def _require_privileges(connection: Connection, tally: Tally) -> None:
    try:
        require_privileges(connection, tally.siblings)
    except NotPermitted as error:
        raise NotPermitted(
            f"{tally.name}: its declaration changed, so `tally migrate` has to install it anew;"
            f" but {error}"
        ) from error


def require_same_declaration(connection: Connection, tally: Tally) -> None:
    """Raise TallyBusy where another declaration was installed meanwhile."""
    installed = state.installed(connection, tally)
    if installed is None or installed.declaration_hash != tally.declaration_hash():
        raise TallyBusy(
            f"{tally.name}: another process has installed another declaration of it just now;"
            " nothing was changed. Run only one version of the code against a database"
        )
