"""How a link's backend wants it to be: what an order to connect says besides the account, as it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from edge.protocol.callbacks.actions import AskBackend, XmppConnect


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """See `XmppConnect`, whose fields these are."""

    resource: str = ""
    roster: bool = False
    presence: str = ""
    carbons: bool = True
    stanzas: Sequence[str] = ("message", "presence", "iq")
    coalesce: Sequence[str] = ("presence", "chatstate")
    keep_ms: int = 300_000
    """How long the link lives without a client."""
    sent: bool = False
    detached: bool = False
    asks: bool = False
    """Credentials are asked for whenever they are needed."""
    begun_at: int = 0
    """Wall ms of the order: nothing older is missed."""

    @classmethod
    def of(cls, order: XmppConnect, now: int) -> Self:
        return cls(
            resource=order.resource,
            roster=order.on_connect.roster,
            presence=order.on_connect.presence or "",
            carbons=order.on_connect.carbons,
            stanzas=tuple(order.routing.stanzas),
            coalesce=tuple(order.routing.coalesce),
            keep_ms=round(order.keep_after_detach_s * 1_000),
            sent=order.sent,
            detached=order.detached,
            asks=isinstance(order.auth, AskBackend),
            begun_at=now,
        )

    def to_stored(self) -> Mapping[str, Any]:
        return {
            "resource": self.resource, "roster": self.roster, "presence": self.presence, "carbons": self.carbons,
            "stanzas": list(self.stanzas), "coalesce": list(self.coalesce), "keep_ms": self.keep_ms,
            "sent": self.sent, "detached": self.detached, "asks": self.asks,
            "begun_at": self.begun_at,
        }  # fmt: skip

    @classmethod
    def from_stored(cls, fields: Mapping[str, Any]) -> Self:
        """What is not there has its default, what is not known is passed over: older and newer edges read it too."""
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        known.update({name: tuple(known[name]) for name in ("stanzas", "coalesce") if name in known})
        return cls(**known)
