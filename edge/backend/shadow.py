"""Shadows: a release is shown what another one has answered, and its own answers count for nothing.

After the live release has answered, the same events, with the state that they were sent with, go to the shadow, marked
``Holdfast-Shadow: 1``; what comes back is compared and thrown away. Whatever the shadow does, it cannot slow the live
path down: what waits for it is bounded, what finds no room is counted and dropped, and nothing is tried twice. What a
handler does outside of its answer (a row in a database, a mail) is its own to leave out where that header stands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from edge.backend.base import Outcome, Release
from edge.clock import Clock
from edge.config import RouteSettings
from edge.errors import WireError
from edge.model.cohort import fraction
from edge.protocol.callbacks.actions import BadResult, Result
from edge.protocol.callbacks.events import Event, Parcel
from edge.protocol.callbacks.signature import sign
from edge.protocol.callbacks.wire import JSON_TYPE, MSGPACK_TYPE, decode_response, encode_request, nothing_for

WAITING_MOST = 500
"""Parcels that wait for a shadow, per process."""
AT_ONCE = 4
TIMEOUT_S = 10.0
DIFFERENCES_KEPT = 20
SHOWN_CHARS = 300


@dataclass(slots=True)
class ShadowFigures:
    """How a shadow's answers compare, since it was set. Events: `seen` ones are same, different, failed (no answer that
    holds) or dropped. `differences`: the newest, as (session, event, live, shadow) for people."""

    seen: int = 0
    same: int = 0
    different: int = 0
    failed: int = 0
    dropped: int = 0
    differences: deque[tuple[str, str, str, str]] = field(default_factory=lambda: deque(maxlen=DIFFERENCES_KEPT))

    def add(self, other: ShadowFigures) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.differences.extend(other.differences)


COUNTS = ("seen", "same", "different", "failed", "dropped")


@dataclass(frozen=True, slots=True)
class _Target:
    release: Release
    share: float


@dataclass(frozen=True, slots=True)
class _Showing:
    """One parcel on its way to a shadow, and what the live release answered."""

    route: RouteSettings
    target: _Target
    parcel: Parcel
    live: Mapping[str, Result]


class Shadows:
    """The shadows of all apps, in one process."""

    def __init__(self, edge_id: str, clock: Clock) -> None:
        self._edge_id = edge_id
        self._clock = clock
        self._targets: dict[str, _Target] = {}
        self._figures: dict[str, ShadowFigures] = {}
        self._waiting: deque[_Showing] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self.watching = False
        """There is a shadow: answers are worth showing. The one thing that is asked when there is none."""

    def set(self, app: str, release: Release | None, share: float = 0.0) -> None:
        """Show `release` the events of `share` percent of the sessions of `app`; None: nobody."""
        old = self._targets.get(app)
        if release is None:
            self._targets.pop(app, None)
        elif old is None or old.release != release:
            self._figures[app] = ShadowFigures()
            self._targets[app] = _Target(release, share)
        else:
            self._targets[app] = _Target(release, share)
        self.watching = bool(self._targets)

    def figures(self, app: str) -> ShadowFigures:
        return self._figures.get(app) or ShadowFigures()

    def answered(self, route: RouteSettings, parcel: Parcel, settled: Sequence[tuple[Event, Outcome]]) -> None:
        """The live release has answered events of `parcel`. Never blocks, never raises."""
        target = self._targets.get(route.app)
        if target is None or fraction(parcel.session, "shadow") * 100 >= target.share:
            return
        sent = {event.id for event in parcel.events}
        live = {event.id: out for event, out in settled if isinstance(out, Result) and event.id in sent}
        if not live:
            return
        figures = self._figures[route.app]
        figures.seen += len(live)
        if len(self._waiting) >= WAITING_MOST:
            figures.dropped += len(live)
            return
        events = [event for event in parcel.events if event.id in live]
        shown = replace(parcel, release=target.release.sha, attempt=1, events=events)
        self._waiting.append(_Showing(route, target, shown, live))
        if len(self._tasks) < AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._show_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.watching = False
        self._targets.clear()
        self._waiting.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _show_all(self) -> None:
        while self._waiting:
            showing = self._waiting.popleft()
            answers = await self._ask(showing)
            self._compare(showing, answers)

    async def _ask(self, showing: _Showing) -> Mapping[str, Result | BadResult]:
        """What the shadow answers; nothing when it does not."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        route, release, parcels = showing.route, showing.target.release, [showing.parcel]
        try:
            body = encode_request(self._edge_id, parcels, (), "msgpack" if route.encoding == "msgpack" else "json")
            headers = {
                "Content-Type": MSGPACK_TYPE if route.encoding == "msgpack" else JSON_TYPE,
                "Accept": f"{MSGPACK_TYPE}, {JSON_TYPE};q=0.9",
                "User-Agent": "holdfast",
                "Holdfast-Edge": self._edge_id,
                "Holdfast-Release": release.sha,
                "Holdfast-Shadow": "1",
            }
            if route.secrets:
                secrets = [secret.value.encode() for secret in route.secrets]
                headers["Holdfast-Signature"] = sign(secrets, body, self._clock.wall_ms() // 1000)
            answer = await self._client.post(release.url + route.callback_path, content=body, headers=headers)
            if answer.status_code == 204:
                return nothing_for(parcels)
            if answer.status_code != 200:
                return {}
            return decode_response(answer.content, answer.headers.get("content-type", ""), parcels)
        except (httpx.HTTPError, httpx.InvalidURL, WireError, ValueError):
            return {}

    def _compare(self, showing: _Showing, answers: Mapping[str, Result | BadResult]) -> None:
        app = showing.route.app
        figures = self._figures[app] if self._targets.get(app) == showing.target else ShadowFigures()
        for id, live in showing.live.items():
            answer = answers.get(id)
            if not isinstance(answer, Result):
                figures.failed += 1
            elif _essence(answer) == _essence(live):
                figures.same += 1
            else:
                figures.different += 1
                figures.differences.append((showing.parcel.session, id, _text(live), _text(answer)))


def _essence(result: Result) -> tuple[Any, ...]:
    """What has to be equal. Not the ids of actions: a backend may draw them."""
    actions = tuple(replace(action, id=None) if action.id is not None else action for action in result.actions)
    return actions, dict(result.state_set), sorted(result.state_unset)


def _text(result: Result) -> str:
    actions, state, unset = _essence(result)
    parts = [", ".join(str(action) for action in actions) or "no actions"]
    parts += [f"set {state}"] if state else []
    parts += [f"unset {unset}"] if unset else []
    text = "; ".join(parts)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
