"""Texts that cannot be sent on (JSON can spell half a character) are refused wherever they come in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.serve.rig import Client, answered, workshop

from ludora.serve.bodies import Item, Role
from ludora.serve.items import PromptItems, items_app

HALF = "\ud800"
NEW: dict[str, Any] = {"task_name": "os_interaction", "sample_index": "0"}
ATTRIBUTE: dict[str, Any] = {"name": "max_round", "instance_factory_type": "simple_immutable_type"}


def refused(client: Client, route: str, body: Any) -> str:
    """Why a body is refused; it is sent with its half characters, as JSON escapes them."""
    answer = client.http.post(f"/api/{route}", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and list(answer.json()) == ["detail"], answer.text
    return str(answer.json()["detail"])


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("interact", {"session": {**NEW, "finish_reason": HALF}}),
        ("interact", {"session": {**NEW, "task_output": {"answer": HALF}}}),
        ("interact", {"session": {**NEW, "task_output": {HALF: None}}}),
        ("complete", {"session": {**NEW, "evaluation_record": {"detail_dict": {HALF: 1}}}}),
        ("release", {"session": {**NEW, "chat_history": {"value": [{"role": "user", "content": HALF}]}}}),
        ("get_attribute", {"name": HALF}),
        ("set_attribute", {**ATTRIBUTE, "instance_factory_parameter_dict": {"type": "str", "value": HALF}}),
        ("set_attribute", {**ATTRIBUTE, "instance_factory_parameter_dict": {"type": "int", "value": [{"a": HALF}]}}),
    ],
)
def test_half_a_character_is_refused(route: str, body: Any) -> None:
    found = refused(Client(workshop().app()), route, body)
    assert "half a character" in found and "\n" not in found


@pytest.mark.parametrize("key", ["sample_index", "task_name", "sample_status", HALF])
def test_so_it_is_where_a_text_has_more_to_fulfil(key: str) -> None:
    assert refused(Client(workshop().app()), "reset", {"session": {**NEW, key: HALF}}).startswith("body")


def test_nothing_is_carried_out_and_the_session_goes_on() -> None:
    shop = workshop()
    client = Client(shop.app())
    session = client.reset()
    refused(client, "interact", {"session": answered(session, f"Act: bash\n```bash\necho {HALF}\n```")})
    assert shop.machines[0].said == []
    client.bash(session, "echo whole")
    assert shop.machines[0].said == ["echo whole"]


def test_a_prompt_stays_readable() -> None:
    client = Client(items_app(PromptItems("act", 5)))
    before = client.post("get_chat_history_item_dict_deep_copy")
    for index in (1, 5):
        why = refused(client, "set", {"prompt_index": index, "role": "agent", "content": HALF})
        assert why == "body.content: a text holds half a character (a lone surrogate)"
    assert client.post("get_chat_history_item_dict_deep_copy") == before
    client.post("set", {"prompt_index": 1, "role": "agent", "content": "\U0001f600"})  # two escapes, one character


def test_a_reset_that_fails_keeps_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop(sessions=1)
    client = Client(shop.app())

    def broken() -> list[Item]:
        raise RuntimeError

    def unsendable() -> list[Item]:
        return [Item.model_construct(role=Role.USER, content=HALF)]

    for opening in (broken, unsendable):
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(PromptItems, "opening", lambda items, opening=opening: opening())
                asked = client.http.post("/api/reset", json={"session": NEW})
            assert asked.status_code == 500 and len(shop.tasks.sessions) == 0 and shop.machines[-1].closed
    client.reset()
