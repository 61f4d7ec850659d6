"""In whose name a link may send: as its account, or, an external component, as anybody at its own domain.

What is refused here would cost the whole stream at one server or another, not just the stanza: Prosody closes a
component's stream that sends from anywhere else, ejabberd one that sends from or to nowhere (XEP-0114 leaves both to
the server).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.errors import FieldError, WireError
from edge.protocol.xmpp import names
from edge.protocol.xmpp.jid import bare, parse_jid


class SenderRule(Protocol):
    """What the stanzas of one link must have in common."""

    @property
    def namespace(self) -> str:
        """Of the link's stream: what an element without a namespace of its own is in."""

    @property
    def needs_to(self) -> bool:
        """A stanza must say whom it is to."""

    def check(self, said: str | None, field: str = "from") -> None:
        """Whether a stanza may have this `from`; None: it has none. Raises FieldError, about `field`."""

    def choose(self, wanted: str | None) -> str | None:
        """The `from` to write where `wanted` was asked for; None: none. Raises FieldError."""


@dataclass(frozen=True, slots=True)
class AccountSender:
    """A client's link, with the full address `jid`. The server knows who it is: a `from` need not be there, and says
    nothing new."""

    jid: str

    @property
    def namespace(self) -> str:
        return names.CLIENT

    @property
    def needs_to(self) -> bool:
        return False

    def check(self, said: str | None, field: str = "from") -> None:
        if said is not None and said not in (self.jid, bare(self.jid)):
            raise FieldError(field, f"must not say it is from {said!r}: leave `from` out, the link is {self.jid}")

    def choose(self, wanted: str | None) -> str | None:
        self.check(wanted)
        return wanted


@dataclass(frozen=True, slots=True)
class ComponentSender:
    """A component's link: any address at `domain`, which is compared letter by letter, as Prosody does."""

    domain: str

    @property
    def namespace(self) -> str:
        return names.COMPONENT

    @property
    def needs_to(self) -> bool:
        return True

    def check(self, said: str | None, field: str = "from") -> None:
        if said is None:
            raise FieldError(field, f"must say who it is from: {self.domain}, or somebody there")
        try:
            domain = parse_jid(said).domain
        except WireError as error:
            raise FieldError(field, f"must be from somebody at {self.domain}: {error}") from None
        if domain != self.domain:
            raise FieldError(field, f"must not say it is from {said!r}: the link is {self.domain}, and those there")

    def choose(self, wanted: str | None) -> str | None:
        if wanted is None:
            return self.domain
        self.check(wanted)
        return wanted


Sender = str | SenderRule
"""A full JID stands for that account."""


def rule_of(sender: Sender) -> SenderRule:
    return AccountSender(sender) if isinstance(sender, str) else sender
