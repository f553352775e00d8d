"""How each system's real input is brought in, and what has to be there before.

A system that can be loaded is one line in `_loaders`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from assets.loading import Loaded, LoadError
from assets.systems import missing_sources
from resources.settings import database_url
from resources.table_names import refuse_renamed
from tallies import System


@dataclass(frozen=True)
class Loader:
    """A system, the function that loads it, and what its input is counted in.

    Where `of_instance`, the function has to be told whose input it is: `instance`, `by_host`.
    """

    system: System
    load: Callable[..., Loaded]
    unit: str
    of_instance: bool = False


def loader_of(system: str) -> Loader:
    """The loader of the system of that name.

    Raises LoadError, which lists the systems that can be loaded.
    """
    loaders = _loaders()
    if system not in loaders:
        raise LoadError(
            f"no system is called {system!r}; input can be loaded into {', '.join(loaders)}"
        )
    return loaders[system]


def prepare(engine: Engine, loader: Loader) -> list[str]:
    """See to it that the system's source tables are there, and return what was done for that.

    In the embedded database they are made; in one's own they have to be there.

    Raises LoadError, SettingError where its tables go by names of their own, and what a migration
    raises.
    """
    refuse_renamed(loader.system.name, "by which `tally load` writes")
    if database_url() is None:
        from pipelines.migrate import migrate

        return migrate(engine, [loader.system], with_sources=True).done
    with engine.connect() as connection:
        missing = missing_sources(connection, loader.system)
    if missing:
        raise LoadError(
            f"there is no {', '.join(missing)} in the database that TALLY_DATABASE_URL names;"
            f" make it with `TALLY_SYSTEMS={loader.system.name} tally migrate --with-sources`"
        )
    return []


def _loaders() -> dict[str, Loader]:
    from assets.classroom.load import load_classroom
    from assets.classroom.tallies import system as classroom
    from assets.fediverse.load import load_fediverse
    from assets.fediverse.tallies import system as fediverse
    from assets.gallery.load import load_gallery
    from assets.gallery.tallies import system as gallery
    from assets.media.load import load_media
    from assets.media.tallies import system as media

    return {
        "media": Loader(media, load_media, "files"),
        "gallery": Loader(gallery, load_gallery, "items"),
        "classroom": Loader(classroom, load_classroom, "events"),
        "fediverse": Loader(fediverse, load_fediverse, "events", of_instance=True),
    }
