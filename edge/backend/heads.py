"""Heads of answers that were seen before: backends repeat themselves, and looking one up is cheaper than parsing it."""

from __future__ import annotations

from collections.abc import Sequence

from edge.facts import fact

KNOWN_MOST = 128
"""Heads remembered per backend: some lengths times some seconds."""
HEAD_BYTES = 2_048


@fact
class KnownHead:
    """What the parser made of the head of an answer whose body is `length` bytes, after which the connection stays."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    length: int


class KnownHeads(dict[bytes, KnownHead]):
    """By their bytes, empty line included. Within one second of its Date most heads of a backend are equal. Shared by
    all connections to it; bounded."""

    __slots__ = ()

    def learn(self, data: bytes, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """`data`, one read of the socket, was exactly this answer, and the connection stays."""
        end = data.find(b"\r\n\r\n") + 4
        if end > HEAD_BYTES or data[end:] != body:
            return  # chunked, behind a 1xx answer … : the head alone does not say where it ends
        if len(self) >= KNOWN_MOST:
            self.clear()
        self[data[:end]] = KnownHead(status, headers, len(body))
