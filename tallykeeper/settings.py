"""What the environment says: one plain function per setting, read anew at every call.

Nothing here touches a database, and nothing is read at import. An unset or empty variable means
its default; a malformed one raises `SettingError`, and is never guessed at. Whether an address
leads to a database is `tallykeeper.database.connections`'s business, not this file's.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path

DEFAULT_FRESH_SECONDS = 2 * 60 * 60
DEFAULT_PRESSURE_ROWS = 100_000
DEFAULT_STATEMENT_SECONDS = 5
SHORTEST_TOKEN = 16
DEFAULT_KEEP_RUNS_DAYS = 90
DEFAULT_KEEP_INCIDENTS_DAYS = 365
DEFAULT_ALERT_REPEAT_HOURS = 6
DEFAULT_UI_URL = "http://127.0.0.1:3000"
NO_ARCHIVE = "none"
DEFAULT_REPAIRS_PER_DAY = 3
EVENT_TRIGGERS = ("auto", "off", "refuse")
LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535

# Where this code stands.
_OURS = Path(__file__).resolve().parent.parent
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SYSTEM_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]*")
TOKEN = re.compile(r"[!-~]+")
# A port alone, or a host (an IPv6 one in brackets) and a port.
_LISTENING = re.compile(
    r"(?:(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])?:)?(?P<port>\d{1,5})", re.ASCII
)
# Blanks end an address; a comma does where another one follows, for it may stand within one.
_BETWEEN_URLS = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)|\s*,?\s+|,$")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_LONGEST_IDENTIFIER = 63
_RESERVED_SCHEMAS = frozenset({"information_schema", "tallykeeper"})


class SettingError(ValueError):
    """A setting is malformed: says what was expected, what came, and what to do."""

    def __init__(self, variable: str, expected: str, came: str, todo: str) -> None:
        super().__init__(f"{variable}: expected {expected}, but it is {came!r}; {todo}.")
        self.variable = variable


def schema_of(system: str) -> str:
    """The schema that holds a system's tables: TALLY_SCHEMA_<SYSTEM>, else the system's name.

    Raises SettingError where the variable names no schema that an application could own.
    """
    variable = f"TALLY_SCHEMA_{system.upper()}"
    schema = read(variable)
    if schema is None:
        return system
    usable = (
        _SCHEMA_NAME.fullmatch(schema) is not None
        and len(schema) <= _LONGEST_IDENTIFIER
        and not schema.startswith("pg_")
        and schema not in _RESERVED_SCHEMAS
    )
    if not usable:
        raise SettingError(
            variable,
            f"the name of a schema (letters, digits, _ $ -, at most {_LONGEST_IDENTIFIER}, "
            "none that PostgreSQL or Tallykeeper keeps for itself)",
            schema,
            f"name the schema that holds the {system} tables, or unset it for {system!r}",
        )
    return schema


def names_file() -> Path | None:
    """The file that says how source tables are named in one's own database: TALLY_NAMES, absolute.

    None where unset. Raises SettingError where it is no file.
    """
    value = read("TALLY_NAMES")
    if value is None:
        return None
    path = _expand_user("TALLY_NAMES", value).resolve()
    if not path.is_file():
        raise SettingError("TALLY_NAMES", "a TOML file", value, "name the file, or unset it")
    return path


def places_file() -> Path | None:
    """The file that declares places: TALLY_PLACES, absolute.

    None where unset. Raises SettingError where it is no file.
    """
    value = read("TALLY_PLACES")
    if value is None:
        return None
    path = _expand_user("TALLY_PLACES", value).resolve()
    if not path.is_file():
        raise SettingError("TALLY_PLACES", "a TOML file", value, "name the file, or unset it")
    return path


def home() -> Path:
    """The folder for all that Tallykeeper stores itself, absolute: TALLY_HOME, else `.tally`.

    The default is in the project's root. The folder need not exist yet. Raises SettingError where
    a file stands in its place.
    """
    value = read("TALLY_HOME")
    if value is None:
        return project_root() / ".tally"
    path = _expand_user("TALLY_HOME", value).resolve()
    if path.exists() and not path.is_dir():
        raise SettingError("TALLY_HOME", "a folder", value, "name a folder, or one to be created")
    return path


def project_root() -> Path:
    """The folder of the project, absolute: TALLY_PROJECT, else the nearest with a project in it.

    A project is a folder whose pyproject.toml has a table [tool.tallykeeper]. It is looked for from
    the current folder upwards, then where this code itself stands; else it is the current folder.
    Raises SettingError where TALLY_PROJECT is no folder, or a pyproject.toml cannot be read or is
    another user's.
    """
    value = read("TALLY_PROJECT")
    if value is not None:
        path = _expand_user("TALLY_PROJECT", value).resolve()
        if not path.is_dir():
            raise SettingError("TALLY_PROJECT", "a folder", value, "name the project's folder")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents, _OURS):
        if project_table(folder) is not None:
            if folder != _OURS:
                _require_own(folder / "pyproject.toml")
            return folder
    return here


def _require_own(path: Path) -> None:
    """Refuse a project that another user put in the way: its code would run with our rights."""
    if path.stat().st_uid not in (0, os.getuid()):
        raise SettingError(
            "the project",
            "a pyproject.toml of the user who runs this, or of root",
            str(path),
            "name the project's folder in TALLY_PROJECT where that user is trusted",
        )


def project_table(folder: Path) -> dict[str, object] | None:
    """What the folder's pyproject.toml has in [tool.tallykeeper]; None where there is no such.

    Raises SettingError where the file, or what it has there, is malformed.
    """
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    now = path.stat()
    return _table_in(path, (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))


@lru_cache(maxsize=16)
def _table_in(path: Path, _as_written: tuple[int, ...]) -> dict[str, object] | None:
    """The table of a file that was written then: what names a thing in Dagster asks for it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("tallykeeper")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        todo = f"correct it ({error})"
        raise SettingError("the project", "a pyproject.toml in TOML", str(path), todo) from error
    if table is not None and not isinstance(table, dict):
        expected = "a table [tool.tallykeeper]"
        raise SettingError(str(path), expected, str(table), "write it as a table")
    return table


def project_page() -> str | None:
    """The package whose folder `static` is the project's page: `page` in [tool.tallykeeper].

    None where it has no page of its own. Raises SettingError where it is no name.
    """
    root = project_root()
    page = (project_table(root) or {}).get("page")
    if page is not None and not isinstance(page, str):
        place = f"[tool.tallykeeper] of {root / 'pyproject.toml'}: page"
        raise SettingError(place, "the name of a package", str(page), 'write it as "shop.page"')
    return page


def dagster_prefix() -> str:
    """What names in Dagster begin with: `dagster_prefix` in [tool.tallykeeper]; empty: nothing.

    Raises SettingError where no name could begin with it.
    """
    return _dagster_prefix(project_root())


@cache
def _dagster_prefix(root: Path) -> str:
    prefix = (project_table(root) or {}).get("dagster_prefix", "")
    if not isinstance(prefix, str) or (prefix and not _SYSTEM_NAME.fullmatch(prefix)):
        raise SettingError(
            f"[tool.tallykeeper] of {root / 'pyproject.toml'}: dagster_prefix",
            "letters, digits and _, beginning with a letter, in small letters",
            str(prefix),
            "correct it, or leave it out for names without a prefix",
        )
    return prefix


def owners() -> list[str]:
    """Who owns the assets in Dagster: `owners` in [tool.tallykeeper], addresses or `team:<name>`.

    Raises SettingError where that is no list of texts.
    """
    root = project_root()
    found = (project_table(root) or {}).get("owners", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        place = f"[tool.tallykeeper] of {root / 'pyproject.toml'}: owners"
        raise SettingError(place, "a list of texts", str(found), 'write it as in ["team:sales"]')
    return found


def database_url() -> str | None:
    """The address of one's own database, TALLY_DATABASE_URL; None means the embedded server."""
    return read("TALLY_DATABASE_URL")


def dagster_pg_url() -> str | None:
    """The address of Dagster's own storage, DAGSTER_PG_URL; None means beside the tallies."""
    return read("DAGSTER_PG_URL")


def start_date() -> date:
    """The day of the first partition, TALLY_START_DATE; 1 January of last year (UTC) where unset.

    All that is older belongs to the first partition. Raises SettingError where it is no date, or
    one still to come (there would be no partition).
    """
    value = read("TALLY_START_DATE")
    today = datetime.now(UTC).date()
    if value is None:
        return date(today.year - 1, 1, 1)
    todo = "write the first day to be counted as YYYY-MM-DD"
    try:
        # Only this way of writing a date: fromisoformat also takes 20150101 and 2015-W01-4.
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        day = date.fromisoformat(value)
    except ValueError as error:
        raise SettingError("TALLY_START_DATE", "a date like 2015-01-01", value, todo) from error
    if day > today:
        raise SettingError("TALLY_START_DATE", "a day not after today (UTC)", value, todo)
    return day


def wanted_systems() -> list[str] | None:
    """The systems to keep, TALLY_SYSTEMS, in the order given; None means all with source tables.

    Only the spelling is checked here: which systems there are is known above. Raises SettingError.
    """
    value = read("TALLY_SYSTEMS")
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(_SYSTEM_NAME.fullmatch(name) for name in names):
        raise SettingError(
            "TALLY_SYSTEMS",
            "names of systems with commas between them, like media,gallery",
            value,
            "correct the list, or unset it for every system whose source tables exist",
        )
    return list(dict.fromkeys(names))


def fresh_seconds() -> int:
    """How long a change may be pending before `fresh` warns: TALLY_FRESH_SECONDS, 2 hours.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_FRESH_SECONDS", DEFAULT_FRESH_SECONDS, "seconds")


def wait_seconds() -> int | None:
    """For how long locks of others are waited for: TALLY_WAIT_SECONDS; None where unset.

    Raises SettingError where it is no whole number from 1.
    """
    return None if read("TALLY_WAIT_SECONDS") is None else count("TALLY_WAIT_SECONDS", 1, "seconds")


def pressure_rows() -> int:
    """How many pending changes of a tally call for an early refresh: TALLY_PRESSURE_ROWS, 100,000.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_PRESSURE_ROWS", DEFAULT_PRESSURE_ROWS, "change-log rows")


def keep_runs_days() -> int:
    """For how many days runs and their events are kept: TALLY_KEEP_RUNS_DAYS, 90.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_KEEP_RUNS_DAYS", DEFAULT_KEEP_RUNS_DAYS, "days")


def keep_incidents_days() -> int:
    """For how many days a resolved incident is kept: TALLY_KEEP_INCIDENTS_DAYS, 365.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_KEEP_INCIDENTS_DAYS", DEFAULT_KEEP_INCIDENTS_DAYS, "days")


def repairs_per_day() -> int:
    """How often a tally is repaired by itself in 24 hours: TALLY_REPAIRS_PER_DAY, 3; 0: never.

    Raises SettingError where it is no whole number from 0.
    """
    return count("TALLY_REPAIRS_PER_DAY", DEFAULT_REPAIRS_PER_DAY, "repairs", least=0)


def archive_address() -> str | None:
    """Where archived partitions are, TALLY_ARCHIVE: a folder or an address; None: nowhere.

    None where it is unset or `none`. Raises SettingError where it is neither, or has credentials.
    """
    value = read("TALLY_ARCHIVE")
    if value is None or value == NO_ARCHIVE:
        return None
    if "://" not in value:
        return str(_expand_user("TALLY_ARCHIVE", value).absolute())
    if re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s@?#]*", value) is None:
        raise SettingError(
            "TALLY_ARCHIVE",
            "a folder, an address like s3://bucket/folder without user, password or query, or"
            f" {NO_ARCHIVE}",
            "something else",
            "leave credentials to the environment, as the store's own tools read them",
        )
    return value


def loses_unarchived() -> bool:
    """Whether old partitions are dropped without being archived: TALLY_ARCHIVE is `none`."""
    return read("TALLY_ARCHIVE") == NO_ARCHIVE


def event_triggers() -> str:
    """What `tally migrate` does about event triggers: TALLY_EVENT_TRIGGERS, auto.

    Raises SettingError where it is none of EVENT_TRIGGERS.
    """
    value = read("TALLY_EVENT_TRIGGERS") or EVENT_TRIGGERS[0]
    if value not in EVENT_TRIGGERS:
        raise SettingError(
            "TALLY_EVENT_TRIGGERS",
            f"one of {', '.join(EVENT_TRIGGERS)}",
            value,
            f"correct it, or unset it for {EVENT_TRIGGERS[0]}",
        )
    return value


def alert_urls() -> list[str]:
    """Where alerts are sent to, TALLY_ALERT_URLS: addresses as Apprise takes them; empty: nowhere.

    They hold secrets, and are never shown. Only their form is checked here,
    `tallykeeper.operations.alert_targets` knows what can be sent to. Raises SettingError, which
    tells of a malformed one by its place.
    """
    value = read("TALLY_ALERT_URLS")
    if value is None:
        return []
    urls = [url for url in _BETWEEN_URLS.split(value) if url]
    for place, url in enumerate(urls, 1):
        if _URL.fullmatch(url) is None:
            raise not_an_alert_url(place, len(urls))
    return list(dict.fromkeys(urls))


def not_an_alert_url(place: int, of: int) -> SettingError:
    """What is said of an address in TALLY_ALERT_URLS that nothing can be sent to."""
    return SettingError(
        "TALLY_ALERT_URLS",
        "addresses like mailto://... or json://..., with blanks or commas between them",
        f"something else in place {place} of {of}",
        "correct it (https://appriseit.com lists what there is; special characters are"
        " percent-encoded), or unset it to send nothing",
    )


def alert_repeat_hours() -> int:
    """After how many hours a message is repeated: TALLY_ALERT_REPEAT_HOURS, 6.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_ALERT_REPEAT_HOURS", DEFAULT_ALERT_REPEAT_HOURS, "hours")


def ui_url() -> str:
    """Where people reach the Dagster UI, the base of links: TALLY_UI_URL, http://127.0.0.1:3000.

    Without a slash at its end. Raises SettingError where it is no address of a web page, or has
    a password in it, which would be sent to everyone.
    """
    value = read("TALLY_UI_URL")
    if value is None:
        return DEFAULT_UI_URL
    if re.fullmatch(r"https?://[^\s@?#]+", value) is None:
        raise SettingError(
            "TALLY_UI_URL",
            f"an address like {DEFAULT_UI_URL}, without user, password or query",
            "something else",
            "write it as it stands in the browser, up to where the UI's own path begins",
        )
    return value.rstrip("/")


def shown_ui_url() -> str | None:
    """The same for pages that anybody may see; None where TALLY_UI_URL is not set."""
    return None if read("TALLY_UI_URL") is None else ui_url()


def spark_address() -> str | None:
    """Where Spark runs: TALLY_SPARK_ADDRESS, of Spark Connect or of a cluster's master; None: here.

    Raises SettingError where it is no such address.
    """
    value = read("TALLY_SPARK_ADDRESS")
    if value is not None and re.fullmatch(r"(sc|spark)://[^\s@]+", value) is None:
        raise SettingError(
            "TALLY_SPARK_ADDRESS",
            "an address like spark://host:7077 or sc://host:15002",
            "something else",
            "name a cluster, or leave it unset to run Spark on this machine",
        )
    return value


def engine_folder() -> Path | None:
    """Where rows are put for other query engines: TALLY_ENGINE_FOLDER; None: any.

    A cluster has to see it under the same name.
    """
    value = read("TALLY_ENGINE_FOLDER")
    return None if value is None else _expand_user("TALLY_ENGINE_FOLDER", value)


def serve_database_url() -> str | None:
    """The address by which `tally serve` reads, TALLY_SERVE_DATABASE_URL; None: as all others.

    For a role that may read alone.
    """
    return read("TALLY_SERVE_DATABASE_URL")


def serve_folder() -> Path | None:
    """The folder that the service counts in place of a database: TALLY_SERVE_FOLDER; None: none."""
    value = read("TALLY_SERVE_FOLDER")
    return None if value is None else _expand_user("TALLY_SERVE_FOLDER", value)


def serve_token() -> str | None:
    """What lets in who asks the service for a rebuild, TALLY_SERVE_TOKEN; None: nobody.

    Never shown. Raises SettingError where it could be guessed, or not be sent.
    """
    value = read("TALLY_SERVE_TOKEN")
    if value is not None and (TOKEN.fullmatch(value) is None or len(value) < SHORTEST_TOKEN):
        raise SettingError(
            "TALLY_SERVE_TOKEN",
            f"at least {SHORTEST_TOKEN} visible ASCII characters, without blanks",
            "something else",
            "take what `openssl rand -hex 32` prints, or unset it to switch rebuilding off",
        )
    return value


def serve_docs() -> bool:
    """Whether the service shows its addresses at `/docs`, to be tried there: TALLY_SERVE_DOCS, 0.

    Raises SettingError where it is neither 0 nor 1.
    """
    value = read("TALLY_SERVE_DOCS") or "0"
    if value not in ("0", "1"):
        todo = "write 1 to show them, or unset it"
        raise SettingError("TALLY_SERVE_DOCS", "0 or 1", value, todo)
    return value == "1"


def serve_ready_seconds() -> int:
    """How long a change may be pending while the service is ready: TALLY_SERVE_READY_SECONDS, 2 h.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_SERVE_READY_SECONDS", DEFAULT_FRESH_SECONDS, "seconds")


def serve_statement_seconds() -> int:
    """How long the service lets a statement take: TALLY_SERVE_STATEMENT_SECONDS, 5.

    Raises SettingError where it is no whole number from 1.
    """
    return count("TALLY_SERVE_STATEMENT_SECONDS", DEFAULT_STATEMENT_SECONDS, "seconds")


def metrics_address() -> tuple[str, int] | None:
    """Host and port at which metrics are served, TALLY_METRICS_ADDRESS; None: they are not.

    Raises SettingError where it is no such address.
    """
    value = read("TALLY_METRICS_ADDRESS")
    return None if value is None else listening_address("TALLY_METRICS_ADDRESS", value)


def listening_address(variable: str, value: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464`, `[::1]:9464` or `9464`, which is of this machine alone.

    Port 0 is any free one. Raises SettingError, in which `variable` names what is malformed.
    """
    found = _LISTENING.fullmatch(value.strip())
    if found is None or int(found["port"]) > HIGHEST_PORT:
        raise SettingError(
            variable,
            "an address to listen at, like 127.0.0.1:9464, or a port alone",
            value,
            f"write host:port, with a port up to {HIGHEST_PORT}",
        )
    return (found["host"] or LOOPBACK).strip("[]"), int(found["port"])


def count(variable: str, default: int, unit: str, least: int = 1) -> int:
    """The variable as a whole number from `least`. Raises SettingError, which names the unit."""
    value = read(variable)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise SettingError(
            variable,
            f"a whole number of {unit} from {least}",
            value,
            f"correct it, or unset it for {default:,}",
        )
    return int(value)


def read(variable: str) -> str | None:
    """The variable without surrounding blanks; None where unset or empty."""
    return os.environ.get(variable, "").strip() or None


def _expand_user(variable: str, value: str) -> Path:
    """The path with a leading ~ resolved. Raises SettingError where that user is unknown."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise SettingError(
            variable, "a folder", value, "write the path in full, without ~"
        ) from error
