"""The chat-history-item server: the fixed items of every prompt, kept in one place, which clients may rewrite."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException

from ludora.envs.shell import actions
from ludora.serve.app import Value, add_general, new_app
from ludora.serve.bodies import Item, ItemDict, ItemPlace, Items, NewItem, OneItem, Role

MOST = 100  # items
LONGEST = 200_000  # characters of one
AGREED = "OK."


class PromptItems:
    """The fixed items by index: how to act (0, the user's) and that it was understood (1, the agent's)."""

    def __init__(self, act: str, rounds: int) -> None:
        told = Item(role=Role.USER, content=actions.rules(act, rounds).content)
        self._items = {0: told, 1: Item(role=Role.AGENT, content=AGREED)}
        self._lock = threading.Lock()

    def all(self) -> dict[int, Item]:
        """A copy."""
        with self._lock:
            return dict(self._items)

    def opening(self) -> list[Item]:
        """Items 0 and 1, which every episode begins with."""
        items = self.all()
        return [items[0], items[1]]

    def set(self, index: int, item: Item) -> None:
        """Write an item; one that is there keeps its role.

        Raises:
            ValueError: another role, too many items, or too long a text; the message says which.
        """
        with self._lock:
            old = self._items.get(index)
            if old and old.role is not item.role:
                raise ValueError(f"this item is the {old.role}'s")
            if old is None and len(self._items) >= MOST:
                raise ValueError(f"there are {MOST} items already")
            if len(item.content) > LONGEST:
                raise ValueError(f"an item has at most {LONGEST} characters")
            self._items[index] = item


def items_app(items: PromptItems) -> FastAPI:
    """The application of the chat-history-item server."""
    router = APIRouter()

    def get(name: str) -> None:
        """There are no attributes."""

    def put(name: str, value: Value) -> None:
        raise HTTPException(422, "this server has no attributes; /set changes an item")

    add_general(router, get, put)

    @router.post("/construct")
    def construct(data: ItemPlace) -> OneItem:
        """One item."""
        item = items.all().get(data.chat_history_item_index)
        if item is None:
            raise HTTPException(404, "there is no such item")
        if data.expected_role not in (None, item.role):
            raise HTTPException(409, f"this item is the {item.role}'s")
        return OneItem(chat_history_item=item)

    @router.post("/get_chat_history_item_dict_deep_copy")
    def get_chat_history_item_dict_deep_copy() -> Items:
        """All items. The body is ignored."""
        found: dict[str, Any] = {str(index): item for index, item in sorted(items.all().items())}
        return Items(chat_history_item_dict=ItemDict(value=found))

    @router.post("/set")
    def set_item(data: NewItem) -> None:
        """Rewrite an item, or add one; episodes that begin afterwards see it."""
        try:
            items.set(data.prompt_index, Item(role=data.role, content=data.content))
        except ValueError as error:
            raise HTTPException(409, str(error)) from None

    return new_app("Ludora chat-history-item server", "The fixed items of every prompt of the task server.", router)
