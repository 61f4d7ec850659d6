"""Letters between edges: an order for a session that lives elsewhere, a count of subscribers or of an item's
receivers, news of a release, a wish that GRIP clients be looked after.

Pure msgpack maps with a type `t` and, for questions, a number `n` that the answer repeats. Actions travel in the same
form in which backends write them, so that one checker reads both. Orders for XMPP links have passwords in them: a
letter is for its receiver, and is neither kept nor shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from edge.errors import FieldError, WireError
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
from edge.protocol.callbacks.check import parse_actions
from edge.protocol.callbacks.form_xmpp import xmpp_form


@dataclass(frozen=True, slots=True)
class Order:
    """Carry out `result` on `session`; answered with `Receipt`. A repeated number is answered, not done again."""

    number: int
    session: str
    result: Result


@dataclass(frozen=True, slots=True)
class Receipt:
    """Answer to `Order`: `outcome` is ``done``, ``gone``, ``refused`` or ``failed``; `detail` is for people."""

    number: int
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CountAsked:
    """How many of your sessions are subscribed to `channel`? Answered with `Count`."""

    number: int
    channel: str


@dataclass(frozen=True, slots=True)
class Count:
    number: int
    count: int


@dataclass(frozen=True, slots=True)
class ReleasesChanged:
    """The release table of `app` has changed in the store; read it again. No answer."""

    app: str


@dataclass(frozen=True, slots=True)
class SessionsAsked:
    """How many sessions of `app` are on each release here? Answered with `SessionsCounted`."""

    number: int
    app: str


@dataclass(frozen=True, slots=True)
class SessionsCounted:
    """By SHA."""

    number: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FiguresAsked:
    """What has been counted here of a release? Answered with `FiguresGiven`."""

    number: int
    app: str
    sha: str


@dataclass(frozen=True, slots=True)
class FiguresGiven:
    """Since the process began: events answered, failures, events per bucket of duration."""

    number: int
    answered: int
    failed: int
    took: Sequence[int]


@dataclass(frozen=True, slots=True)
class ShadowAsked:
    """How do the answers of the shadow of `app` compare? Answered with `ShadowGiven`."""

    number: int
    app: str


@dataclass(frozen=True, slots=True)
class ShadowGiven:
    """Events seen, same, different, failed, dropped; the newest differences."""

    number: int
    counts: Sequence[int]
    differences: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ReceiversAsked:
    """How many of your GRIP clients would be handed each of these items? Of each: its channel, and the kinds of
    members it has formats for. Answered with `Receivers`."""

    number: int
    items: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Receivers:
    """One number for each item that was asked about."""

    number: int
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Recover:
    """Forget the newest ids of all GRIP channels, and have backends asked for what may have been missed. No answer."""


@dataclass(frozen=True, slots=True)
class SealedOrder:
    """An `Order` for a link that has credentials in it, as a letter that was sealed for that link."""

    link: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class LinksFreed:
    """Links have been given away: claim some. No answer."""


@dataclass(frozen=True, slots=True)
class RowsAsked:
    """What do you know about this? `topic`: ``sessions`` or ``life``; `about`: what is meant. Answered with `Rows`."""

    number: int
    topic: str
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    number: int
    rows: Sequence[Mapping[str, Any]]


Letter = (
    LinksFreed
    | SealedOrder
    | Order
    | Receipt
    | CountAsked
    | Count
    | ReleasesChanged
    | FiguresAsked
    | FiguresGiven
    | ShadowAsked
    | ShadowGiven
    | SessionsAsked
    | SessionsCounted
    | RowsAsked
    | Rows
    | ReceiversAsked
    | Receivers
    | Recover
)

_ACTION_NAMES: dict[type, str] = {
    Accept: "accept",
    Reject: "reject",
    Send: "send",
    CloseSession: "close",
    Subscribe: "subscribe",
    Unsubscribe: "unsubscribe",
    Publish: "publish",
    Identify: "identify",
    SetTimer: "timer",
    CancelTimer: "cancel_timer",
    Pin: "pin",
}


def encode_letter(letter: Letter) -> bytes:
    match letter:
        case Order(number, session, result):
            body = {
                "t": "order",
                "n": number,
                "session": session,
                "actions": [action_form(action) for action in result.actions],
                "set": dict(result.state_set),
                "unset": list(result.state_unset),
            }
        case Receipt(number, outcome, detail):
            body = {"t": "receipt", "n": number, "outcome": outcome, "detail": detail}
        case CountAsked(number, channel):
            body = {"t": "count?", "n": number, "channel": channel}
        case Count(number, count):
            body = {"t": "count", "n": number, "count": count}
        case ReleasesChanged(app):
            body = {"t": "releases", "app": app}
        case SessionsAsked(number, app):
            body = {"t": "sessions?", "n": number, "app": app}
        case RowsAsked(number, topic, about):
            body = {"t": "rows?", "n": number, "topic": topic, "about": dict(about)}
        case Rows(number, rows):
            body = {"t": "rows", "n": number, "rows": list(rows)}
        case SessionsCounted(number, by_sha):
            body = {"t": "sessions", "n": number, "counts": dict(by_sha)}
        case FiguresAsked(number, app, sha):
            body = {"t": "figures?", "n": number, "app": app, "sha": sha}
        case FiguresGiven(number, answered, failed, took):
            body = {"t": "figures", "n": number, "answered": answered, "failed": failed, "took": list(took)}
        case ShadowAsked(number, app):
            body = {"t": "shadow?", "n": number, "app": app}
        case ShadowGiven(number, shadow_counts, differences):
            told = [list(each) for each in differences]
            body = {"t": "shadow", "n": number, "counts": list(shadow_counts), "differences": told}
        case ReceiversAsked(number, items):
            body = {"t": "receivers?", "n": number, "items": [[channel, list(kinds)] for channel, kinds in items]}
        case Receivers(number, counts):
            body = {"t": "receivers", "n": number, "counts": list(counts)}
        case Recover():
            body = {"t": "recover"}
        case LinksFreed():
            body = {"t": "links"}
        case SealedOrder(link, sealed):
            body = {"t": "sealed", "link": link, "data": sealed}
    packed: bytes = msgpack.packb(body, use_bin_type=True, datetime=True)
    return packed


def decode_letter(body: bytes) -> Letter:
    """`WireError` for anything that is not a letter, `FieldError` for an order with a bad action."""
    try:
        form = msgpack.unpackb(body, raw=False, timestamp=3, strict_map_key=False)
        match form:
            case {
                "t": "order",
                "n": int(number),
                "session": str(session),
                "actions": actions,
                "set": set_,
                "unset": unset,
            }:
                result = Result(parse_actions(actions, from_json=False), dict(set_), tuple(unset))
                return Order(number, session, result)
            case {"t": "receipt", "n": int(number), "outcome": str(outcome), "detail": str(detail)}:
                return Receipt(number, outcome, detail)
            case {"t": "count?", "n": int(number), "channel": str(channel)}:
                return CountAsked(number, channel)
            case {"t": "count", "n": int(number), "count": int(count)}:
                return Count(number, count)
            case {"t": "releases", "app": str(app)}:
                return ReleasesChanged(app)
            case {"t": "sessions?", "n": int(number), "app": str(app)}:
                return SessionsAsked(number, app)
            case {"t": "sessions", "n": int(number), "counts": dict(by_sha)}:
                return SessionsCounted(number, {str(sha): int(each) for sha, each in by_sha.items()})
            case {"t": "rows?", "n": int(number), "topic": str(topic), "about": dict(about)}:
                return RowsAsked(number, topic, about)
            case {"t": "rows", "n": int(number), "rows": list(rows)} if all(type(row) is dict for row in rows):
                return Rows(number, rows)
            case {"t": "figures?", "n": int(number), "app": str(app), "sha": str(sha)}:
                return FiguresAsked(number, app, sha)
            case {"t": "figures", "n": int(number), "answered": int(good), "failed": int(bad), "took": list(took)}:
                return FiguresGiven(number, good, bad, [int(each) for each in took])
            case {"t": "shadow?", "n": int(number), "app": str(app)}:
                return ShadowAsked(number, app)
            case {"t": "shadow", "n": int(number), "counts": list(counts), "differences": list(told)}:
                return ShadowGiven(number, [int(each) for each in counts], [tuple(map(str, each)) for each in told])
            case {"t": "receivers?", "n": int(number), "items": list(items)}:
                return ReceiversAsked(number, [(str(channel), tuple(kinds)) for channel, kinds in items])
            case {"t": "receivers", "n": int(number), "counts": list(counts)}:
                return Receivers(number, [int(each) for each in counts])
            case {"t": "recover"}:
                return Recover()
            case {"t": "links"}:
                return LinksFreed()
            case {"t": "sealed", "link": str(link), "data": bytes(sealed)}:
                return SealedOrder(link, sealed)
    except FieldError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not a letter: {error}") from error
    raise WireError("not a letter: unknown type or a field is missing")


def action_form(action: Action) -> dict[str, Any]:
    """An action as a backend would have written it in msgpack (see callbacks/SPEC.md, The answer)."""
    if isinstance(action, LinkAction):
        return xmpp_form(action)
    form: dict[str, Any] = {"type": _ACTION_NAMES[type(action)]}
    for field in fields(action):
        value = getattr(action, field.name)
        if field.name == "payload":
            form["text" if isinstance(value, str) else "data"] = value
        elif field.name == "headers":
            form["headers"] = [list(pair) for pair in value]
        elif field.name == "since":
            if value is not None:
                form["since"] = {"offset": value[0], "epoch": value[1]}
        elif value is not None or field.name in ("user", "release"):
            form[field.name] = value
    return form
