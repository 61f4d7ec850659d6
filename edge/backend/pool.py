"""Requests to one release of one route: who goes next, how many at once, and what happens when one fails.

*Decide, then do*: `_plan` is synchronous and says what leaves on which connection; `_ship` does it. Mailboxes are asked
for their events only when a connection is at hand, so that events of many sessions gather while all slots are busy
(natural batching). Planning happens at the end of a turn of the loop: an event leaves in the turn it came in, together
with those that came with it when there are more of them than free slots.

A release that refuses connections, or fails several fresh requests in a row, is *away* (`edge.model.health`): then one
request at a time tries whether it is back, all else gathers without being touched, and everything goes as soon as one
succeeds.

Longer than our other rooms because planning, shipping and reading answers share the pool's state; what could be told
apart (backlog, health, throttle, outcomes) has rooms of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.backend.backlog import Backlog
from edge.backend.base import Mailbox, Refused, Release
from edge.backend.context import Context
from edge.backend.dialer import Dialer, Target
from edge.backend.heads import KnownHeads
from edge.backend.http11 import Answer, Failure, HttpConnection
from edge.backend.letters import Group, Letter
from edge.backend.outcomes import Outcomes
from edge.backend.redirects import advice
from edge.backend.request import RequestWriter
from edge.config import RouteSettings
from edge.errors import BackendError, ConfigError, WireError
from edge.model.health import Health
from edge.model.retry import (
    Throttle,
    Verdict,
    backoff_ms,
    judge,
    pieces,
    retry_after_ms,
)
from edge.protocol.callbacks.actions import BadResult, Result
from edge.protocol.callbacks.wire import decode_response, nothing_for
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.backend")

BAD_RESULT_LINES_MS = 1_000
"""One line a second about bad answers is enough to find them."""
REFUSED_BODY_BYTES = 65_536
REFUSAL_HINTS: Mapping[int, str] = {
    401: ": do the route's secrets match the backend's?",
    404: ": is the path right (the release's URL and callback_path)?",
    405: ": does this path take POST?",
}
"""What an operator may look at first; added to the log's line."""
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"content-length", "date", "server"}
)
"""Not handed on with a refusal: RFC 9110 section 7.6.1, and what the edge's own server writes itself."""


@dataclass(slots=True, eq=False)
class Shipment:
    """One request under way."""

    group: Group
    number: int
    sent_ms: int
    gone: Sequence[str]
    encoding: str


def target_of(route: RouteSettings, release: Release) -> Target:
    """Where the release is. A URL that no backend can have (the control API refuses those) becomes a target that does
    not resolve: its sessions wait and are told like those of any release that is away."""
    try:
        return Target.parse(release.url, route.callback_path)
    except ConfigError as error:
        _log.error("route %s: %s", route.name, error)
        return Target(tls=False, host="url.invalid", port=9, authority="url.invalid", path="/")


class Pool:
    """Requests to `release`, on behalf of the mailboxes of one route."""

    def __init__(self, context: Context, route: RouteSettings, release: Release) -> None:
        self._context = context
        self.route = route
        self.release = release
        self.used_ms = context.clock.monotonic_ms()
        self._meters = context.metrics.route(route.name, release.sha)
        target = target_of(route, release)
        self._dialer = Dialer(target, context.clock)
        self._writer = RequestWriter(context.edge_id, route, release, target)
        self._throttle = Throttle(route.pool.slots)
        self._outcomes = Outcomes(context, self._meters)
        self._backlog = Backlog(context, route, release, self._outcomes)
        self._heads = KnownHeads()
        self._idle: list[HttpConnection] = []
        self._shipments: dict[HttpConnection, Shipment] = {}
        self._connections: set[HttpConnection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._number = 0
        self._scheduled = False
        self._alarm: Alarm | None = None
        self._closed = False
        self._dialing = 0
        self._dial_failures = 0
        self._dial_after_ms = 0
        self._health = Health(context.random, round(route.timeouts.retry_window_s * 1000))
        self._said_bad_ms = -BAD_RESULT_LINES_MS

    # -- what the client asks ----------------------------------------------------------------------------------

    def update(self, route: RouteSettings) -> None:
        """The route's settings have changed (a reload)."""
        if route == self.route:
            return
        self.route = self._backlog.route = route
        self._throttle.most = route.pool.slots
        self._health.window_ms = round(route.timeouts.retry_window_s * 1000)
        self._writer.update(route)

    def ready(self, mailbox: Mailbox, since_ms: int) -> None:
        """`mailbox` has events, since `since_ms`."""
        self._backlog.ready(mailbox, since_ms)
        if not self._scheduled:
            self._soon()

    def adopt(self, group: Group) -> None:
        """Take over letters that another release's pool could not deliver."""
        self._backlog.now([group])
        self._soon()

    def look_again(self) -> None:
        """The release table has changed: hand on what belongs to other releases now."""
        self._backlog.reroute()
        self._soon()

    @property
    def open_events(self) -> int:
        """Events taken and not settled; a mailbox that waits counts as one."""
        groups = [*self._backlog.groups(), *(shipment.group for shipment in self._shipments.values())]
        return self._backlog.waiting + sum(letter.open_events for group in groups for letter in group.letters)

    @property
    def quiet(self) -> bool:
        """Nothing is in flight and nothing waits."""
        return not self._shipments and self._backlog.empty

    def close(self) -> None:
        """Close all connections. What was not settled never will be."""
        self._closed = True
        self._backlog.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._dials:
            task.cancel()
        for connection in list(self._connections):
            connection.close()

    # -- decide ------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Plan at the end of this turn of the loop, when all its events are here."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._context.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        now = self._context.clock.monotonic_ms()
        backlog, health = self._backlog, self._health
        backlog.wake(now)
        if health.failing:
            backlog.reroute()
        orders, dials = self._plan(now)
        if health.failing:
            backlog.expire(now, health.last_error)  # what could not leave now; what could has its last try
        for connection, group in orders:
            self._ship(connection, group, now)
        for _ in range(dials):
            self._dialing += 1
            task = self._context.loop.create_task(self._dial())
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)
        self._arm(now)
        if self.quiet:
            self._context.fell_quiet()

    def _plan(self, now: int) -> tuple[list[tuple[HttpConnection, Group]], int]:
        """What leaves on which connection, and how many connections to open for the rest."""
        orders: list[tuple[HttpConnection, Group]] = []
        backlog, health = self._backlog, self._health
        if not backlog.pending:
            return orders, 0
        room = self._room(now)
        wanted = min(room, backlog.groups_due + backlog.waiting)
        share = -(-backlog.waiting // max(1, wanted - backlog.groups_due))
        while wanted and self._idle:
            # While away, the failed group at hand may itself be the reason: try a fresh one every other time.
            group = backlog.next_group(share, fresh_first=health.away and health.probes % 2 == 1)
            if group is None:
                return orders, 0
            orders.append((self._idle.pop(), group))
            wanted -= 1
        if not backlog.pending or now < self._dial_after_ms:
            return orders, 0
        return orders, max(0, wanted - self._dialing)

    def _room(self, now: int) -> int:
        """How many more requests may be in flight."""
        if self._health.away:
            return 1 if self._health.may_probe(now) and not self._shipments else 0
        return max(0, self._throttle.limit - len(self._shipments))

    def _arm(self, now: int) -> None:
        """One alarm: for the next group that is due, the next try of an absent release, the next window's end."""
        health = self._health
        dues = []
        due = self._backlog.wake_at(failing=health.failing)
        if due is not None:
            dues.append(due)
        if self._backlog.pending:
            if health.away and not self._shipments and not self._dialing:
                dues.append(health.probe_ms)
            if self._dial_after_ms > now:
                dues.append(self._dial_after_ms)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if dues:
            self._alarm = self._context.wheel.at(max(now, min(dues)), self._soon)

    # -- do ----------------------------------------------------------------------------------------------------

    async def _dial(self) -> None:
        now = self._context.clock.monotonic_ms
        try:
            connection = await self._dialer.dial(self._new_connection, self.route.timeouts.connect_s)
        except BackendError as error:
            self._dial_failures += 1
            self._dial_after_ms = now() + backoff_ms(self._dial_failures, self._context.random)
            self._meters.request_failures["connect"].value += 1
            if not self._connections:
                self._dial_after_ms = 0  # the release is away: its probes have a rhythm of their own
                if self._health.unreachable(str(error), now()):
                    self._say_away()
        else:
            self._dial_failures = self._dial_after_ms = 0
            if self._closed or not connection.usable:
                connection.close()
            else:
                self._idle.append(connection)
        finally:
            self._dialing -= 1
            self._soon()

    def _new_connection(self) -> HttpConnection:
        context = self._context
        return HttpConnection(self, context.clock, context.wheel, context.limits, self._heads)

    def _ship(self, connection: HttpConnection, group: Group, now: int) -> None:
        context = self._context
        gone = context.take_gone(self.release.app)
        request = self._writer.write([letter.parcel for letter in group.letters], gone, context.clock)
        self._number += 1
        self.used_ms = now
        self._shipments[connection] = Shipment(group, self._number, now, gone, self._writer.encoding)
        meters = self._meters
        meters.requests.value += 1
        meters.in_flight.value += 1
        events = group.events
        meters.batch_size.observe(events)
        if group.letters[0].parcel.attempt > 1:
            meters.events_retried.value += events
        connection.send(request, now, now + round(self.route.timeouts.request_s * 1000))

    def _back(self, connection: HttpConnection) -> tuple[Shipment, int]:
        """The request on `connection` is over."""
        shipment = self._shipments.pop(connection)
        now = self._context.clock.monotonic_ms()
        self._meters.in_flight.value -= 1
        self._meters.request_seconds.observe((now - shipment.sent_ms) / 1000)
        return shipment, now

    # -- what connections report -------------------------------------------------------------------------------

    def answered(self, connection: HttpConnection, answer: Answer) -> None:
        shipment, now = self._back(connection)
        if connection.usable:
            self._idle.append(connection)
        self._soon()
        match judge(answer.status):
            case Verdict.ANSWER:
                self._read(shipment, answer, now)
            case Verdict.REFUSED:
                self._refused(shipment, answer, now)
            case Verdict.REDIRECT:
                self._redirected(shipment, answer, now)
            case Verdict.THROTTLED:
                self._throttle.throttled(shipment.number, self._number)
                self._failed(shipment, "status 429", "throttled", now, self._retry_after(answer), whole=True)
            case Verdict.RETRY:
                after = self._retry_after(answer)
                self._failed(shipment, f"status {answer.status}", "status", now, after)

    def failed(self, connection: HttpConnection, failure: Failure) -> None:
        shipment, now = self._back(connection)
        if self._closed:
            return
        self._soon()
        if failure.stale:
            # Not the events' fault and not the release's: another connection, at once.
            self._context.keep_gone(self.release.app, shipment.gone)
            self._backlog.now([shipment.group])
            return
        self._failed(shipment, failure.phrase, failure.kind, now)

    def made(self, connection: HttpConnection) -> None:
        self._connections.add(connection)
        self._meters.backend_connections.value += 1

    def lost(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        self._meters.backend_connections.value -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._backlog.pending:
            self._soon()

    # -- what answers mean -------------------------------------------------------------------------------------

    def _read(self, shipment: Shipment, answer: Answer, now: int) -> None:
        letters = shipment.group.letters
        parcels = [letter.parcel for letter in letters]
        content_type = answer.header(b"content-type")
        try:
            if answer.status == 204 and not answer.body:
                results = nothing_for(parcels)
            else:
                results = decode_response(answer.body, content_type, parcels)
        except WireError as error:
            self._failed(shipment, f"unreadable answer: {error}", "garbage", now)
            return
        if self.route.encoding == "auto" and self._writer.encoding == "json" and "msgpack" in content_type:
            self._writer.use("msgpack")
        if results:
            self._throttle.answered()
            self._answered(now)
        unfinished, bad = self._outcomes.results(letters, results)
        if bad is not None:
            self._say_bad("release %s: bad result, %s", f"{bad.field}: {bad.problem}")
        if unfinished:
            self._unfinished(shipment.group, unfinished, results, now)

    def _unfinished(
        self, group: Group, letters: list[Letter], results: Mapping[str, Result | BadResult], now: int
    ) -> None:
        """Letters with events left: some were left out of `results`, others had to wait for the first ones."""
        alone = group.events == 1
        for letter in letters:
            if all(event.id in results for event in letter.parcel.events):
                self._backlog.now([Group([letter])])
            elif alone:
                group.failures += 1
                self._meters.request_failures["left out"].value += 1
                self._backlog.later([group], "event left out of results", now)
            else:
                self._backlog.now([Group([letter], most=1)])

    def _refused(self, shipment: Shipment, answer: Answer, now: int) -> None:
        """A 4xx. In a batch nobody knows who is meant: halves, at once. Alone it is a verdict."""
        group = shipment.group
        self._context.keep_gone(self.release.app, shipment.gone)
        self._answered(now)
        if answer.status == 415 and shipment.encoding == "msgpack" and self.route.encoding == "auto":
            # A release behind the same name that does not know msgpack (any more).
            self._writer.use("json")
            self._backlog.now([group])
            return
        self._meters.request_failures["refused"].value += 1
        if group.events > 1:
            self._backlog.now(group.split(2))
            return
        hint = REFUSAL_HINTS.get(answer.status, "")
        self._say_bad("release %s refused an event with status %s", f"{answer.status}{hint}")
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        headers = tuple((name, value) for name, value in fields if name.lower() not in HOP_BY_HOP)
        self._end(group, Refused(answer.status, headers, answer.body[:REFUSED_BODY_BYTES]))

    def _redirected(self, shipment: Shipment, answer: Answer, now: int) -> None:
        self._meters.request_failures["redirect"].value += 1
        self._answered(now)
        line = "release %s answers with a redirect, which is never followed: %s"
        self._say_bad(line, advice(answer, target_of(self.route, self.release)))
        self._end(shipment.group, Refused(502, (), b""))

    def _end(self, group: Group, outcome: Refused) -> None:
        for letter in group.letters:
            self._outcomes.refused(letter, outcome)
            if not letter.done:
                self._backlog.now([Group([letter])])

    def _failed(
        self,
        shipment: Shipment,
        phrase: str,
        kind: str,
        now: int,
        after_ms: int | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """No usable answer: the same events again, later, in halves unless the failure was not theirs (`whole`)."""
        group = shipment.group
        self._context.keep_gone(self.release.app, shipment.gone)
        self._meters.request_failures[kind].value += 1
        fresh = group.failures == 0 and group.letters[0].parcel.attempt == 1
        if self._health.failed(phrase, now, fresh=fresh):
            self._say_away()
        group.failures += 1
        if group.failures & (group.failures - 1) == 0:
            self._note_retry(group, phrase)
        try_ms = round(self.route.timeouts.request_s * 1000) if kind == "timeout" else 0
        parts = 1 if whole else pieces(group.events, group.expires_ms - now, try_ms)
        self._backlog.later(group.split(parts), phrase, now, after_ms)

    def _note_retry(self, group: Group, phrase: str) -> None:
        """Of many failures in a row the 1st, 2nd, 4th, 8th … are told."""
        context, at = self._context, self._context.clock.wall_ms()
        detail = f"try {group.failures} at release {self.release.sha} failed: {phrase}"
        for letter in group.letters:
            context.note(at, letter.mailbox.session, "retry", detail)

    def _answered(self, now: int) -> None:
        """The release gave an answer that means something: it is there."""
        if not self._health.failing:
            return
        away_ms = self._health.answered(now)
        if away_ms is None:
            return
        _log.info("route %s: release %s is back after %.1f s", self.route.name, self.release.sha, away_ms / 1000)
        self._backlog.wake_all()

    def _retry_after(self, answer: Answer) -> int | None:
        value = answer.header(b"retry-after")
        return retry_after_ms(value, self._context.clock.wall_ms()) if value else None

    # -- what people read --------------------------------------------------------------------------------------

    def _say_away(self) -> None:
        _log.warning("route %s: release %s is away: %s", self.route.name, self.release.sha, self._health.last_error)

    def _say_bad(self, line: str, detail: object) -> None:
        """A line about a backend's mistake, at most one a second: a mistake comes with every event."""
        now = self._context.clock.monotonic_ms()
        if now - self._said_bad_ms >= BAD_RESULT_LINES_MS:
            self._said_bad_ms = now
            _log.warning("route %s: " + line, self.route.name, self.release.sha, detail)
