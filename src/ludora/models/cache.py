"""A cache with a bound on its memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class ByteLRU:
    """Keeps what was used last, `limit` bytes of it at most. What is larger than that alone is not kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The value, which is now the last used; None if it is not there."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """Keep a value of so many bytes, in place of the one of this key, and drop what was not used for longest."""
        if key in self._items:
            self.size -= self._items.pop(key)[1]
        if size > self.limit:
            return
        self._items[key] = (value, size)
        self.size += size
        while self.size > self.limit:
            self.size -= self._items.popitem(last=False)[1][1]

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values, what was used last at the end."""
        return [(key, value) for key, (value, _) in self._items.items()]

    def clear(self) -> None:
        self._items.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)
