"""Systems whose source tables go by other names, in this process: TALLY_NAMES is read at import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def names(folder: Path, text: str, system: str) -> Iterator[dict[str, Any]]:
    """The modules of the system, by their last name, as they are with that TALLY_NAMES."""
    file = folder / "names.toml"
    file.write_text(text, encoding="utf-8")
    package = f"assets.{system}"
    known = {n: m for n, m in sys.modules.items() if n == package or n.startswith(f"{package}.")}
    parent = sys.modules["assets"]
    attribute = getattr(parent, system, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLY_NAMES", str(file))
        for name in known:
            del sys.modules[name]
        try:
            yield {n: importlib.import_module(f"{package}.{n}") for n in ("tallies", "reads")}
        finally:
            for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
                del sys.modules[name]
            sys.modules.update(known)
            if attribute is not None:
                setattr(parent, system, attribute)
