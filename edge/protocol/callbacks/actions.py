"""Actions: orders a backend gives. Imperative, frozen, checked field by field when they are decoded.

Every action may name another session to act on (`session`, None: the event's own) and carry an idempotency key
(`id`, None: none), good for 24 h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.facts import fact
from edge.protocol.callbacks.events import Headers

ACTION_ID_TTL_S = 86_400
"""How long an action's idempotency key is remembered (spec: 24 h)."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer of `open`: complete the handshake with this subprotocol and these response headers."""

    subprotocol: str | None = None
    headers: Headers = ()
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer of `open`: refuse the handshake with `status` (400–599)."""

    status: int = 403
    headers: Headers = ()
    text: str = ""
    session: str | None = None
    id: str | None = None


@fact
class Send:
    """Send one message to the client: str as text, bytes as binary."""

    payload: str | bytes
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Close the client's connection (`close` on the wire), after everything sent before it."""

    code: int = 1000
    reason: str = ""
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to a channel; with `since` (offset, epoch): first what was missed, then live, no gap, no repeat."""

    channel: str
    since: tuple[int, str] | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to a channel. `id` de-duplicates per channel. `except_self`: not to the acting session."""

    channel: str
    payload: str | bytes
    except_self: bool = False
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Identify:
    """Say who the session's user is; None takes it back."""

    user: str | None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """A durable timer (`timer` on the wire): a `timer` event in `after_ms`. Setting a name again replaces it."""

    name: str
    after_ms: int
    data: Any = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CancelTimer:
    name: str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """Keep the session on a release; None lets it follow its route's policy again."""

    release: str | None
    session: str | None = None
    id: str | None = None


Action = (
    Accept | Reject | Send | CloseSession | Subscribe | Unsubscribe | Publish | Identify | SetTimer | CancelTimer | Pin
)


@fact
class Result:
    """What the backend answered to one event. State and actions take effect together or not at all."""

    actions: Sequence[Action] = ()
    state_set: Mapping[str, Any] = field(default_factory=dict)
    state_unset: Sequence[str] = ()


NOTHING = Result()
"""No actions, no state: an empty 204, or a result without either."""


@dataclass(frozen=True, slots=True)
class BadResult:
    """A result that does not hold together: `field` names the first bad field. Its event is not retried."""

    field: str
    problem: str
