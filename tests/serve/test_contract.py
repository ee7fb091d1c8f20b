"""schemathesis over the OpenAPI of both servers: no 5xx, and every answer is what the schema says."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.serve.rig import Client, workshop

from ludora.serve.items import items_app

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
SHOP = workshop(sessions=1000)
APP = SHOP.app()
CLIENT = Client(APP)
BOUNDED = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

task_schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
items_schema = schemathesis.openapi.from_asgi("/openapi.json", items_app(SHOP.items))


@task_schema.parametrize()
@BOUNDED
def test_task_server(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@task_schema.include(path_regex="/(interact|complete|release)$").parametrize()
@BOUNDED
def test_whatever_is_said_about_a_session_that_is_open(case: schemathesis.Case) -> None:
    """Beyond the first check of the body: what is made up names a session that there is."""
    session = case.body.get("session") if isinstance(case.body, dict) else None
    if isinstance(session, dict):
        session["evaluation_record"] = CLIENT.reset()["evaluation_record"]
    case.call_and_validate(checks=CHECKS)


@items_schema.parametrize()
@BOUNDED
def test_items_server(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)
