"""Writes the OpenAPI document that is kept in the repository: `python -m tests.openapi`.

A test compares the two, so that a change of what is promised is seen in review.
"""

from __future__ import annotations

import json
from pathlib import Path

from tallykeeper.discovery import all_systems
from tallykeeper.http.app import create_app
from tallykeeper.settings import project_root

DOCUMENT = Path("docs") / "reference" / "openapi.json"


def document() -> str:
    """The document of the service with all systems, as it is kept."""
    app = create_app(systems=[system.name for system in all_systems()])
    return json.dumps(app.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (project_root() / DOCUMENT).write_text(document())
