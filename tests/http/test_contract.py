"""The service keeps to its OpenAPI document, whatever it is asked: each operation, by schemathesis.

The document says which statuses and which bodies there are; here requests are made from it, right
ones and wrong ones, and each answer is held against it. The same requests in every run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import positive_data_acceptance
from sqlalchemy import Engine

from tallykeeper.http.app import create_app
from tests import serving
from tests.integration.support import rows, scalar
from tests.servers import Servers

EXAMPLES = 12
SHORT = ("/ready", "/api/hashtags/spiking", "/api/incidents")

# It opens its database when it is first asked.
schema = schemathesis.openapi.from_asgi("/openapi.json", create_app())


@pytest.fixture(scope="module", autouse=True)
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with serving.filled(postgres_servers) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLY_DATABASE_URL", engine.url.render_as_string(hide_password=False))
        yield engine


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_has(case: schemathesis.Case) -> None:
    # A start after its end is refused: rules between parameters cannot be said in OpenAPI.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


def test_answers_about_what_there_is_are_as_the_document_has_them(database: Engine) -> None:
    ((instance, post),) = rows(
        database,
        "SELECT instance_id, post_id FROM fediverse.post_versions"
        " GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT 1",
    )
    user = scalar(database, "SELECT creator_id::text FROM gallery.content_items LIMIT 1")
    tag = scalar(database, "SELECT name FROM gallery.tags ORDER BY id LIMIT 1")
    course = scalar(database, "SELECT min(course_id) FROM classroom.submissions")
    day = scalar(database, "SELECT max(created_at)::date::text FROM media.media_files")
    here = {"instance": instance}
    page = {"user_id": user, "tag_names": [tag], "include_stats": True}
    asked: list[tuple[str, dict[str, object], dict[str, object]]] = [
        ("/api/media/daily-counts", {}, {}),
        ("/api/media/hourly-counts", {}, {"day": day}),
        ("/api/v1/content/stats/unified", {}, {"user_id": user}),
        ("/api/v1/content/unified", {}, page),
        ("/api/v1/tags", {}, {}),
        ("/api/instances", {}, {}),
        ("/api/hashtags/trending", {}, {**here, "minimum_posts": 1, "minimum_accounts": 1}),
        ("/api/stats/hourly", {}, here),
        ("/api/summaries", {}, here),
        ("/api/summaries/latest", {}, here),
        ("/api/posts/velocity", {}, here),
        ("/api/posts/{id}/history", {"id": post}, here),
        ("/api/posts/{id}/counts", {"id": post}, here),
        ("/api/posts/rising", {}, {**here, "minimum_before": 1, "above": 0}),
        ("/api/hashtags/growing", {}, {**here, "minimum_posts": 1, "minimum_accounts": 1}),
        ("/api/hashtags/spiking", {}, here),
        ("/api/hashtags/cooccurrence", {}, here),
        ("/api/domains", {}, here),
        ("/api/courses/{id}/counts", {"id": course}, {}),
        ("/api/courses/counts", {}, {"ids": [f"{course},{course + 1}"]}),
        ("/api/tallies", {}, {}),
        ("/api/tallies/{system}/{table}", {"system": "gallery", "table": "content_tags"}, {}),
        ("/api/tallies/{name}/groups", {"name": "media.daily_contributions"}, {}),
        ("/api/incidents", {}, {"limit": 5}),
        ("/ready", {}, {}),
        ("/metrics", {}, {}),
    ]
    for path, path_parameters, query in asked:
        case = schema[path]["GET"].Case(path_parameters=path_parameters, query=query)
        response = case.call_and_validate()
        assert response.status_code == 200, path
        # Whether anything spikes just now depends on the hour at which the data was made.
        assert len(response.content) > 100 or path in SHORT, path
