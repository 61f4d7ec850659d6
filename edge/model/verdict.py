"""What a result means: the changes it makes to its session's row, or why it may not be applied. Does nothing itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from edge.protocol.callbacks.actions import (
    Accept,
    Action,
    CancelTimer,
    CloseSession,
    Identify,
    LinkAction,
    Pin,
    Publish,
    Reject,
    Result,
    Send,
    SetTimer,
    Subscribe,
    Unsubscribe,
)
from edge.protocol.callbacks.events import Event, Open

LINK_ACTIONS = get_args(LinkAction)


@dataclass(slots=True)
class Changes:
    """What a result changes in the session's row; all or nothing. Empty means: no need to ask the store."""

    state_set: Mapping[str, Any]
    state_unset: Sequence[str]
    user: tuple[str | None] | None
    pinned: tuple[str | None] | None
    subscribe: list[str]
    unsubscribe: list[str]
    set_timers: dict[str, tuple[int, Any]]
    """name → (due wall ms, data)."""
    cancel_timers: list[str]
    action_ids: list[str]

    def any(self) -> bool:
        """Is there anything to ask the store?"""
        return bool(
            self.state_set
            or self.state_unset
            or self.user is not None
            or self.pinned is not None
            or self.subscribe
            or self.unsubscribe
            or self.set_timers
            or self.cancel_timers
            or self.action_ids
        )


@dataclass(slots=True)
class Refusal:
    """A result that may not be applied here: close the session with `code` and `reason`; nothing of it happens."""

    code: int
    reason: str
    limit: str = ""
    """The limit it broke, for the counter; empty when it is not about a limit."""


@dataclass(slots=True)
class Verdict:
    """What to do about a result: first `changes` (when there are any), then `actions` in order."""

    changes: Changes | None
    actions: Sequence[Action]


def plain(result: Result) -> bool:
    """Nothing but messages to the session's own client: no row to change, nobody to ask. The most common answer."""
    if result.state_set or result.state_unset:
        return False
    for action in result.actions:
        if type(action) is not Send or action.session is not None or action.id is not None:
            return False
    return True


def weigh(
    index: int, action: Action, event: Event | None, changes: Changes, channels: Collection[str], now: int
) -> Refusal | None:
    """Add one action's part to `changes`, or say why it may not stand in the answer to `event`.

    `index` is its place in the result, for people; `channels` are those the session is subscribed to.
    """
    if action.id is not None and type(action) is not Publish:
        # A publication's id is its channel's to remember: here it would be used up by one that Redis refused.
        changes.action_ids.append(action.id)
    match action:
        case _ if isinstance(action, LINK_ACTIONS):
            return Refusal(1011, f"actions[{index}].session: must name the link (x:…)")
        case Accept() | Reject() if type(event) is not Open:
            return Refusal(1011, f"actions[{index}].type: only an answer to open may accept or reject")
        case Subscribe():
            _put(changes.subscribe, changes.unsubscribe, action.channel, held=action.channel in channels)
        case Unsubscribe():
            _put(changes.unsubscribe, changes.subscribe, action.channel, held=action.channel not in channels)
        case Identify():
            changes.user = (action.user,)
        case Pin():
            changes.pinned = (action.release,)
        case SetTimer():
            changes.set_timers[action.name] = (now + action.after_ms, action.data)
            if action.name in changes.cancel_timers:
                changes.cancel_timers.remove(action.name)
        case CancelTimer():
            changes.set_timers.pop(action.name, None)
            if action.name not in changes.cancel_timers:
                changes.cancel_timers.append(action.name)
        case Send() | CloseSession() | _:
            pass
    return None


def _put(wanted: list[str], opposite: list[str], channel: str, *, held: bool) -> None:
    """Note a (un)subscription once; within one result the later one of a pair wins."""
    if channel in opposite:
        opposite.remove(channel)
    if not held and channel not in wanted:
        wanted.append(channel)
