"""The chat-history-item server, and that the task server says what it holds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve.rig import Client, workshop

from ludora.serve.items import LONGEST, MOST, PromptItems, items_app


def test_items_are_read_and_rewritten() -> None:
    client = Client(items_app(PromptItems("act", 5)))
    assert client.post("ping") == {"response": "Hello, World!"}
    first = client.post("construct", {"chat_history_item_index": 0, "expected_role": "user"})["chat_history_item"]
    assert "Act: bash" in first["content"] and "5 answers" in first["content"]
    assert client.post("construct", {"chat_history_item_index": 1, "expected_role": None}) == {
        "chat_history_item": {"role": "agent", "content": "OK."}
    }
    assert client.post("set", {"prompt_index": 0, "role": "user", "content": "Be quick."}) is None
    client.post("set", {"prompt_index": 7, "role": "agent", "content": "I am."})
    found = client.post("get_chat_history_item_dict_deep_copy")["chat_history_item_dict"]["value"]
    assert list(found) == ["0", "1", "7"] and found["0"] == {"role": "user", "content": "Be quick."}


def test_episodes_that_begin_afterwards_see_what_was_set() -> None:
    shop = workshop()
    tasks, items = Client(shop.app()), Client(items_app(shop.items))
    before = tasks.reset()
    items.post("set", {"prompt_index": 0, "role": "user", "content": "Here is how it was done before."})
    after = tasks.reset()
    assert before["chat_history"]["value"][0]["content"] != "Here is how it was done before."
    assert after["chat_history"]["value"][0] == {"role": "user", "content": "Here is how it was done before."}


@pytest.mark.parametrize(
    ("route", "body", "status", "why"),
    [
        ("construct", {"chat_history_item_index": 5}, 404, "no such item"),
        ("construct", {"chat_history_item_index": 0, "expected_role": "agent"}, 409, "is the user's"),
        ("construct", {"chat_history_item_index": "first"}, 422, "body.chat_history_item_index"),
        ("set", {"prompt_index": 0, "role": "agent", "content": "x"}, 409, "is the user's"),
        ("set", {"prompt_index": 9, "role": "user", "content": "x" * (LONGEST + 1)}, 409, "at most"),
        ("set", {"prompt_index": 9, "role": "system", "content": "x"}, 422, "body.role"),
        (
            "set_attribute",
            {"name": "a", "instance_factory_type": "simple_immutable_type"}
            | {"instance_factory_parameter_dict": {"type": "int", "value": "1"}},
            422,
            "no attributes",
        ),
    ],
)
def test_what_is_refused(route: str, body: Any, status: int, why: str) -> None:
    found = Client(items_app(PromptItems("act", 5))).post(route, body, status)
    assert list(found) == ["detail"] and why in found["detail"]


def test_items_are_bounded() -> None:
    client = Client(items_app(PromptItems("act", 5)))
    for index in range(2, MOST):
        client.post("set", {"prompt_index": index, "role": "user", "content": "x"})
    assert "already" in client.post("set", {"prompt_index": MOST, "role": "user", "content": "x"}, 409)["detail"]
    client.post("set", {"prompt_index": 2, "role": "user", "content": "y"})
