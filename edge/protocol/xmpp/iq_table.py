"""Requests a link has sent (iq of type get or set), and which answer belongs to which: RFC 6120 §8.1.3, §10.3.3.

An answer counts when its id is that of an open request and it comes from whom the request went to; anybody can guess
ids. Deadlines are `now` of the caller's choosing, in milliseconds. The table survives its edge: `to_stored` after each
change, `from_stored` with the same state later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.errors import WireError
from edge.protocol.xmpp.element import Element


@dataclass(frozen=True, slots=True)
class OpenIq:
    """A request without an answer. `action`: what the backend calls it, or what the edge itself wants it for."""

    id: str
    to: str | None
    action: str
    deadline_ms: int

    def to_stored(self) -> list[object]:
        return [self.id, self.to, self.action, self.deadline_ms]


class IqTable:
    """The open requests of one link. `account`: its full JID."""

    __slots__ = ("_capacity", "_open", "account")

    def __init__(self, account: str, capacity: int = 1_000) -> None:
        self.account = account
        self._capacity = capacity
        self._open: dict[str, OpenIq] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenIq]:
        return iter(self._open.values())

    def get(self, id: str) -> OpenIq | None:
        """The open request of this id."""
        return self._open.get(id)

    def ask(self, id: str, to: str | None, action: str, deadline_ms: int) -> OpenIq:
        """A request is about to be sent. Raises WireError: its id is taken, or too many are open."""
        if id in self._open:
            raise WireError(f"an iq with the id {id!r} is open already: use another id")
        if len(self._open) >= self._capacity:
            raise WireError(f"{self._capacity} requests of this link wait for answers: wait for some of them")
        asked = self._open[id] = OpenIq(id, to, action, deadline_ms)
        return asked

    def answered(self, element: Element) -> OpenIq | None:
        """The request that this stanza answers, which is closed by that; None: it answers none, whatever it says."""
        attributes = element.attributes
        if element.name != "iq" or attributes.get("type") not in ("result", "error"):
            return None
        asked = self._open.get(attributes.get("id", ""))
        if asked is None or not self._may_answer(attributes.get("from"), asked.to):
            return None
        return self._open.pop(asked.id)

    def forget(self, id: str) -> OpenIq | None:
        """The request was not sent, or nobody wants its answer any more."""
        return self._open.pop(id, None)

    def forget_all(self) -> Sequence[OpenIq]:
        """A new session replaced the one that asked: there will be no answers."""
        dropped = tuple(self._open.values())
        self._open.clear()
        return dropped

    def expire(self, now_ms: int) -> Sequence[OpenIq]:
        """Requests whose deadline has come; they are closed. Answers to them are strangers' from now on."""
        late = tuple(asked for asked in self._open.values() if asked.deadline_ms <= now_ms)
        for asked in late:
            del self._open[asked.id]
        return late

    def wake_at(self) -> int | None:
        """When `expire` has something to do next."""
        return min((asked.deadline_ms for asked in self._open.values()), default=None)

    def to_stored(self) -> list[list[object]]:
        return [asked.to_stored() for asked in self._open.values()]

    @classmethod
    def from_stored(cls, account: str, stored: Iterable[object], capacity: int = 1_000) -> IqTable:
        """Raises WireError."""
        table = cls(account, capacity)
        for each in stored:
            match each:
                case [str(id), str() | None as to, str(action), int(deadline_ms)]:
                    table._open[id] = OpenIq(id, to, action, deadline_ms)
                case _:
                    raise WireError(f"not a stored iq: {each!r}")
        return table

    def _may_answer(self, sender: str | None, to: str | None) -> bool:
        """Whether `sender`, as our own server wrote it, is who was asked.

        Without `to`, or with our own bare JID, our server was asked on our behalf, and answers without `from`, as our
        account or, some, as itself. Nobody else can be made to look like these.
        """
        bare = self.account.partition("/")[0]
        domain = bare.rpartition("@")[2]
        if to is None or same_jid(to, bare):
            return sender is None or same_jid(sender, bare) or sender in (domain, self.account)
        if sender is None:
            return same_jid(to, domain) or same_jid(to, self.account)
        return same_jid(sender, to)


def same_jid(one: str, other: str) -> bool:
    """Whether two JIDs are the same but for the case of what is before the slash.

    Servers answer in normalised JIDs to requests in any. None of them has two accounts that differ in case alone
    (RFC 7622 §3.3), so nobody is let in by this who should not be.
    """
    if one == other:
        return True
    bare, slash, resource = one.partition("/")
    other_bare, other_slash, other_resource = other.partition("/")
    return (slash, resource) == (other_slash, other_resource) and bare.casefold() == other_bare.casefold()
