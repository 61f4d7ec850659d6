"""Links for tests of the store: a row, a stream, and views on what is stored."""

from __future__ import annotations

from dataclasses import replace

from edge.store.links_base import Change, HeldLink, Hold, IqEntry, LinkRow, LinkStore, NewStream, Outgoing, Stanza
from tests.unit.store.conftest import Edge

LINK = "x:u42"


def new(link: str = LINK, **fields: object) -> LinkRow:
    known: dict[str, object] = {"app": "chat", "route": "*/", "release": "abc", "jid": "u42@chat.example", **fields}
    return LinkRow(id=link, **known)  # type: ignore[arg-type]


async def begin(edge: Edge, link: str = LINK) -> Hold:
    """A link with an enabled stream, its number 1."""
    begun = await edge.store.links.connect(new(link), edge.id)
    assert begun.row is not None
    assert begun.new
    await edge.store.links.enabled(begun.row.hold, 0, NewStream("sm-1", 300))
    return replace(begun.row.hold, stream=1)


async def state(edge: Edge) -> HeldLink:
    """As its owner has it."""
    return await edge.store.links.claim(LINK, edge.id)


def events(first_seq: int, *data: bytes, **fields: object) -> Change:
    return Change(first_seq, data, **fields)  # type: ignore[arg-type]


def out(raw: bytes, action_id: str = "", iq: IqEntry | None = None) -> Outgoing:
    return Outgoing(Stanza(raw, 1_700_000_000_000, action_id), iq)


async def waiting(links: LinkStore, hold: Hold, after: int = 0) -> list[tuple[int, bytes]]:
    return [(event.seq, event.data) for event in await links.take(hold, after, 1_000, 2**20)]
