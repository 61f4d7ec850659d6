"""A session's state as a mapping that knows what changed in it.

Owns the difference between what the edge sent and what the handler left behind. Values are JSON values
(`backend_sdk.values`). Changes inside a list or dict that was read from the state are noticed too: what is handed
out is remembered in packed form and compared when the handler returns, so ``state["seen"].append(x)`` just works and
costs something only where lists and dicts are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import msgpack

from backend_sdk.errors import ActionError
from backend_sdk.values import check_key, check_value

Delta = dict[str, Any]
"""``{"set": {key: value}, "unset": [key]}``, without what is empty."""


class State(MutableMapping[str, Any]):
    """The session's state: read it, assign to its keys, delete them. Raises `StateError` for what JSON cannot hold.

    It belongs to one event: once the handler has returned, writing to it raises `ActionError`, for it would be lost.
    """

    __slots__ = ("_changed", "_data", "_ended", "_lent")

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self._changed: dict[str, None] = {}
        self._lent: dict[str, bytes] = {}
        self._ended = False

    def __getitem__(self, key: str) -> Any:
        value = self._data[key]
        if isinstance(value, list | dict) and key not in self._lent and key not in self._changed:
            self._lent[key] = msgpack.packb(value)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_open()
        check_key(key)
        check_value(value, f"state[{key!r}]")
        # The same simple value again is no change: it would cost a write to the store for nothing.
        if key in self._data and key not in self._changed:
            old = self._data[key]
            if type(old) is type(value) and not isinstance(value, list | dict) and old == value:
                return
        self._data[key] = value
        self._changed[key] = None

    def __delitem__(self, key: str) -> None:
        self._check_open()
        del self._data[key]
        self._changed[key] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __repr__(self) -> str:
        return f"State({self._data!r})"

    def _check_open(self) -> None:
        if self._ended:
            raise ActionError("state", "the handler has returned; this change would be lost (see AsyncPublisher.act)")

    def seal(self) -> None:
        """No more writing."""
        self._ended = True

    def finish(self) -> Delta:
        """End it and tell what changed. Raises `StateError` when a value was spoiled after it was assigned."""
        self._ended = True
        for key, before in self._lent.items():
            if key in self._data and key not in self._changed:
                check_value(self._data[key], f"state[{key!r}]")
                if msgpack.packb(self._data[key]) != before:
                    self._changed[key] = None
        if not self._changed:
            return {}
        changed = {key: self._data[key] for key in self._changed if key in self._data}
        for key, value in changed.items():
            if isinstance(value, list | dict):
                check_value(value, f"state[{key!r}]")
        gone = [key for key in self._changed if key not in self._data]
        return {name: part for name, part in (("set", changed), ("unset", gone)) if part}
