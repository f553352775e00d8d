"""Every name of the product that the pages of old names and new mention is there.

The pages map the documents' names to what there is. The middle column of their tables is checked:
tables and columns, indexes, Python names, commands with their options, addresses, settings, jobs,
checks and targets of make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest
from sqlalchemy import MetaData, Table

from tallykeeper.catalog import state
from tallykeeper.cli.main import tally
from tallykeeper.discovery import all_systems
from tallykeeper.http.app import create_app
from tests.documents.__main__ import DOCUMENTS
from tests.documents.installation import definitions

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for _, page in DOCUMENTS.values() if page is not None)


def named(text: str) -> Iterator[str]:
    """What the middle column of each table has in backticks."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| in the document"):
            yield from re.findall(r"`([^`]+)`", line.split(" | ")[1])


@cache
def metadata() -> dict[str, MetaData]:
    return {**{s.name: s.metadata for s in all_systems()}, "tallykeeper": state.metadata}


def is_table(name: str) -> bool:
    """Whether it is a table, one's live view, or a column of either."""
    schema, _, rest = name.partition(".")
    relation, _, column = rest.partition(".")
    tables: dict[str, Table] = {t.name: t for t in metadata()[schema].tables.values()}
    table = tables.get(relation.removesuffix("_live"))
    return table is not None and (not column or column in table.c)


def is_python(name: str) -> bool:
    """Whether it is a module, or a name in one."""
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(import_module(module), attribute)
    return True


def is_command(line: str) -> bool:
    """Whether `tally` takes it: the command, its sub-commands and its options."""
    command: click.Command = tally
    for word in line.split()[1:]:
        if word.startswith("--"):
            options = [o for p in command.params for o in p.opts]
            if word not in options:
                return False
        elif isinstance(command, click.Group):
            below = command.get_command(click.Context(command), word)
            if below is None:
                return False
            command = below
    return command is not tally


@cache
def addresses() -> set[str]:
    document = create_app().openapi()["paths"]
    return {f"{verb.upper()} {path}" for path, verbs in document.items() for verb in verbs}


@cache
def in_dagster() -> set[str]:
    location = definitions().get_repository_def()
    jobs = {job.name for job in location.get_all_jobs()}
    checks = {key.name for key in definitions().resolve_asset_graph().asset_check_keys}
    assets = {key.path[-1] for key in definitions().resolve_asset_graph().get_all_asset_keys()}
    return {*jobs, *checks, *assets, *(s.name for s in location.schedule_defs)}


@cache
def indexes() -> set[str]:
    tables = [t for m in metadata().values() for t in m.tables.values()]
    return {str(index.name) for table in tables for index in table.indexes}


@cache
def settings() -> str:
    folders = (ROOT / "tallykeeper", ROOT / "assets")
    return "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))


def is_setting(name: str) -> bool:
    schema = name.removeprefix("TALLY_SCHEMA_").lower()
    return schema in metadata() or f'"{name}"' in settings()


def is_target(line: str) -> bool:
    return (
        re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        is not None
    )


def exists(name: str) -> bool:
    first = re.split(r"[ .]", name)[0]
    kinds: dict[str, Callable[[str], bool]] = {
        **dict.fromkeys(metadata(), is_table),
        **dict.fromkeys(("assets", "resources", "pipelines"), is_python),
        "tallykeeper": lambda n: is_table(n) or is_python(n),
        **dict.fromkeys(("GET", "POST"), lambda address: address in addresses()),
        "tally": is_command,
        "make": is_target,
    }
    if name.startswith("TALLY_"):
        return is_setting(name)
    return kinds.get(first, lambda n: n in in_dagster() or n in indexes())(name)


@pytest.mark.parametrize("page", PAGES)
def test_every_name_that_a_page_mentions_is_there(page: str) -> None:
    names = list(dict.fromkeys(named((ROOT / "docs" / "reference" / page).read_text())))
    assert len(names) > 15
    assert [name for name in names if not exists(name)] == []


def anchors(text: str) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    folder = ROOT / "docs" / "reference"
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (folder / page).read_text()):
        linked = (folder / target).read_text()
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@pytest.mark.parametrize(
    "name",
    [
        "media.daily_contribution",
        "media.daily_contributions.counts",
        "fediverse.posts_live",
        "assets.media.reads.daily_count",
        "tally rebuild --until",
        "tally mend",
        "GET /api/media/daily",
        "POST /api/media/daily-counts",
        "TALLY_DATABASE",
        "make celery",
        "media_every_hour",
    ],
)
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    assert not exists(name)
