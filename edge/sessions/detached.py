"""A connection that is gone. A session that outlives its connection holds this instead: it swallows everything."""

from __future__ import annotations

from edge.protocol.callbacks.events import Headers
from edge.sessions.connection import Connection, Frame


class _Detached:
    __slots__ = ()

    def accept(self, subprotocol: str | None, headers: Headers) -> None: ...

    def reject(self, status: int, headers: Headers, body: bytes) -> None: ...

    def send(self, frame: Frame) -> None: ...

    def flush(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def finish(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


DETACHED: Connection = _Detached()
