"""The OpenAPI document in the repository is that of the code."""

from __future__ import annotations

import json

from tallykeeper.settings import project_root
from tests.openapi import DOCUMENT, document


def test_the_document_that_is_kept_is_the_services() -> None:
    kept = (project_root() / DOCUMENT).read_text()
    assert kept == document(), "run `python -m tests.openapi`, and look at what it changes"


def test_every_read_says_how_it_fails_and_what_it_answers() -> None:
    for address, methods in json.loads(document())["paths"].items():
        if not address.startswith("/api/"):
            continue
        for method, operation in methods.items():
            responses = operation["responses"]
            assert {"422", "503"} <= set(responses), address
            success = responses["202" if method == "post" else "200"]
            assert "$ref" in success["content"]["application/json"]["schema"], address
            for status in ("422", "503"):
                assert list(responses[status]["content"]) == ["application/problem+json"]
