"""The page of the public Python interface, and that the reference project uses nothing else."""

from __future__ import annotations

from tallykeeper.settings import project_root
from tests import public_names
from tests.unit.test_layers import imported

# Its ids become text in tables, logs and views that an earlier release made.
OF_AN_EARLIER_RELEASE = {"assets/fediverse/storage/id_conversion.py"}


def test_the_page_is_of_the_code() -> None:
    kept = (project_root() / public_names.PAGE).read_text(encoding="utf-8")
    assert kept == public_names.page(), "run `python -m tests.public_names`, and look at the change"


def test_the_reference_project_uses_public_modules_alone() -> None:
    internal = {
        (module, name)
        for folder in ("assets", "pipelines", "resources")
        for module, name in imported(folder)
        if name.startswith("tallykeeper") and not _is_public(name)
    }
    assert {found for found in internal if found[0] not in OF_AN_EARLIER_RELEASE} == set()


def _is_public(name: str) -> bool:
    """Whether it is a public module, or a name or module that such a package has."""
    known = public_names.MODULES
    packages = {module.rpartition(".")[0] for module in known} - {"tallykeeper"}
    exported = name.count(".") == 1 and name.partition(".")[2] not in packages
    return name in known or name in packages or exported
