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

from resources.database import open_engine
from serving.app import create_app
from tests import serving
from tests.servers import VERSIONS, Servers

EXAMPLES = 12

# It opens its database when it is first asked.
schema = schemathesis.openapi.from_asgi("/openapi.json", create_app())


@pytest.fixture(scope="module", autouse=True)
def _filled_database(postgres_servers: Servers) -> Iterator[None]:
    with postgres_servers.fresh_database(VERSIONS[0]) as url, pytest.MonkeyPatch.context() as patch:
        engine = open_engine(url)
        serving.fill(engine)
        engine.dispose()
        patch.setenv("TALLY_DATABASE_URL", url)
        yield


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
