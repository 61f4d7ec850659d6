"""Metrics: every name and label is defined here, once.

The two tables are the classes `RouteMeters` and `ProcessMeters`: one line per metric, with the kind, the
exported name and the help text. The hot path counts with plain attributes: ask for the meters once
(``meters = metrics.route(route, release)``), keep them, and write ``meters.events_delivered.value += 1``.

Reading is the slow side: `Metrics.snapshot` gives plain JSON-able numbers, which `edge.telemetry.exposition`
merges over workers and writes for Prometheus, and `edge.telemetry.siblings` fetches from the other workers.

Counters start at 0 with their process: a worker that was restarted starts again, as any process does to
Prometheus.
"""

# ruff: noqa: RUF009  (the calls in the tables' right-hand sides are dataclasses.field with our metadata)

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from edge.model.canary import SECONDS

Kind = Literal["counter", "gauge", "counters", "histogram", "info"]


BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds for events in one request."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Counters(dict[str, Counter]):
    """Counters by one more label; ``counters["client"].value += 1`` makes those it does not have yet.

    The keys become label values: use a fixed set of words, never something a client can choose.
    """

    __slots__ = ()

    def __missing__(self, key: str) -> Counter:
        made = self[key] = Counter()
        return made


class Histogram:
    """How observations spread over fixed buckets. `counts`: per bucket, not cumulative; the last is +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Info:
    """Facts that do not change while the process lives, exported as labels of a constant 1."""

    __slots__ = ("labels",)

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Spec:
    """One line of a table. `attribute`: what code writes; `name`: as exported, without ``_total``."""

    attribute: str
    kind: Kind
    name: str
    help: str
    label: str = ""
    bounds: Sequence[float] = ()


def _row(
    kind: Kind, make: Callable[[], Any], name: str, help: str, label: str = "", bounds: Sequence[float] = ()
) -> Any:
    """A dataclass field that carries its line of the table."""
    return field(
        default_factory=make,
        metadata={"kind": kind, "name": name, "help": help, "label": label, "bounds": bounds},
    )


def _counter(name: str, help: str) -> Counter:
    return cast(Counter, _row("counter", Counter, name, help))


def _gauge(name: str, help: str) -> Gauge:
    return cast(Gauge, _row("gauge", Gauge, name, help))


def _counters(name: str, label: str, help: str) -> Counters:
    return cast(Counters, _row("counters", Counters, name, help, label))


def _histogram(name: str, bounds: Sequence[float], help: str) -> Histogram:
    return cast(Histogram, _row("histogram", lambda: Histogram(bounds), name, help, bounds=bounds))


def _info(name: str, help: str) -> Info:
    return cast(Info, _row("info", Info, name, help))


@dataclass(slots=True)
class RouteMeters:
    """The metrics of one route and release. Labels: worker, route, release.

    Transports count under an empty release: a connection outlives releases, and a handshake that is refused never had
    one. An empty route is for handshakes that no route takes. Sessions, events and requests have both.
    """

    connections: Gauge = _gauge("connections", "Client connections that are open now.")
    connections_opened: Counter = _counter("connections_opened", "Client connections accepted.")
    connections_closed: Counters = _counters(
        "connections_closed",
        "cause",
        "Client connections that ended, by cause: client, backend, idle, slow, limit, drain.",
    )
    handshakes_rejected: Counters = _counters(
        "handshakes_rejected", "reason", "Handshakes that were refused, by reason."
    )
    limits_hit: Counters = _counters("limits_hit", "limit", "Clients that went over a limit, by limit.")
    sessions: Gauge = _gauge("sessions", "Sessions this worker owns now.")
    messages_in: Counter = _counter("messages_received", "Whole messages read from clients.")
    messages_out: Counter = _counter("messages_sent", "Messages written to clients.")
    bytes_in: Counter = _counter("received_bytes", "Payload bytes of messages read from clients.")
    bytes_out: Counter = _counter("sent_bytes", "Payload bytes of messages written to clients.")
    publications_delivered: Counter = _counter(
        "publications_delivered", "Publications handed to subscribed sessions: one per subscriber."
    )
    items_delivered: Counters = _counters(
        "items_delivered",
        "format",
        "Items handed to GRIP clients, one per receiver, by format: ws-message, http-stream, http-response.",
    )
    events_delivered: Counter = _counter("events_delivered", "Events the backend answered with a good result.")
    events_retried: Counter = _counter("events_retried", "Times an event was sent again after a failed request.")
    events_expired: Counter = _counter("events_expired", "Events given up on at the end of the retry window.")
    events_refused: Counter = _counter("events_refused", "Events the backend refused with a 4xx.")
    bad_results: Counter = _counter("bad_results", "Results with an unknown action or a bad field.")
    requests: Counter = _counter("backend_requests", "Requests sent to the backend.")
    request_failures: Counters = _counters(
        "backend_request_failures",
        "kind",
        "Requests to the backend without a usable answer, by kind of failure.",
    )
    batch_size: Histogram = _histogram("batch_size_events", BATCH, "Events in one request.")
    request_seconds: Histogram = _histogram(
        "backend_request_seconds", SECONDS, "From sending a request to its whole answer."
    )
    event_seconds: Histogram = _histogram("event_seconds", SECONDS, "From an event's happening to its outcome.")
    queue_events: Gauge = _gauge("queue_events", "Events waiting for the backend now.")
    in_flight: Gauge = _gauge("backend_requests_in_flight", "Requests to the backend without an answer yet.")
    backend_connections: Gauge = _gauge("backend_connections", "Open connections to the backend, idle ones included.")
    holds: Gauge = _gauge("holds", "Answers over HTTP that are held now: responses and streams.")
    reading_paused: Gauge = _gauge(
        "reading_paused", "Clients the edge does not read from now, because their queue is full."
    )


@dataclass(slots=True)
class ProcessMeters:
    """The metrics of one worker process. Label: worker."""

    store_up: Gauge = _gauge("store_up", "1 while Redis answers.")
    store_waiting: Gauge = _gauge("store_waiting", "Commands waiting for Redis now.")
    store_round_trips: Counter = _counter("store_round_trips", "Pipelines written to Redis.")
    store_commands: Counter = _counter("store_commands", "Commands written to Redis.")
    store_refused: Counters = _counters(
        "store_refused",
        "reason",
        "Commands refused without an answer of Redis: queue (full), waited (too long), lost (may have run), closed.",
    )
    publications_published: Counter = _counter("publications_published", "Publications this worker gave to the store.")
    publications_received: Counter = _counter("publications_received", "Publications the bus delivered to this worker.")
    items_published: Counters = _counters(
        "items_published", "outcome", "Items published to GRIP channels here, by outcome: accepted, duplicate, failed."
    )
    items_received: Counter = _counter("items_received", "Items the bus delivered to this worker.")
    items_dropped: Counters = _counters(
        "items_dropped",
        "reason",
        "Items, or deliveries of them, that went nowhere, by reason: malformed (ZeroMQ), unreadable, "
        "filter, content_filters, rate, failed.",
    )
    grip_channels: Gauge = _gauge("grip_channels", "GRIP channels this worker is subscribed to.")
    channels: Gauge = _gauge("channels", "Channels this worker is subscribed to.")
    lease_held: Gauge = _gauge("lease_held", "1 while this worker holds its lease.")
    estates_taken: Counter = _counter("estates_taken", "Dead edges whose sessions this worker took over.")
    links: Gauge = _gauge("links", "XMPP links this worker owns now.")
    links_live: Gauge = _gauge("links_live", "XMPP links whose stream is up now.")
    link_events_waiting: Gauge = _gauge("link_events_waiting", "Events of links that their backends have not accepted.")
    link_logins: Counters = _counters(
        "link_logins",
        "outcome",
        "Logins to XMPP servers, by outcome: connected (a first session), resumed, reset (a new session in "
        "the place of a lost one), refused, failed, unreachable.",
    )
    link_stanzas: Counters = _counters("link_stanzas", "direction", "Stanzas of links, by direction: in, out.")
    links_claimed: Counter = _counter("links_claimed", "Links taken over from edges that died or went down.")
    link_events_parked: Counter = _counter("link_events_parked", "Events laid aside because no backend took them.")
    loop_lag_seconds: Gauge = _gauge("loop_lag_seconds", "How late the event loop ran its last timer.")
    build_info: Info = _info("build", "Version of the edge and of its Python.")
    open_fds: Gauge = _gauge("open_fds", "File descriptors in use.")
    rss_bytes: Gauge = _gauge("resident_memory_bytes", "Resident memory of the worker.")


def specs_of(meters: type[RouteMeters] | type[ProcessMeters]) -> Sequence[Spec]:
    """The lines of one table, in order."""
    return [Spec(attribute=row.name, **row.metadata) for row in fields(meters)]


ROUTE_SPECS = specs_of(RouteMeters)
PROCESS_SPECS = specs_of(ProcessMeters)


class Metrics:
    """All meters of one worker process.

    `worker` is its number as a string; it becomes the ``worker`` label. A restarted worker keeps its number.
    """

    __slots__ = ("_before", "_routes", "process", "worker")

    def __init__(self, worker: str = "0", build: dict[str, str] | None = None) -> None:
        self.worker = worker
        self.process = ProcessMeters()
        self.process.build_info.labels.update(build or {})
        self._routes: dict[tuple[str, str], RouteMeters] = {}
        self._before: list[Callable[[], None]] = []

    def route(self, route: str, release: str) -> RouteMeters:
        """The meters of one route and release; the same object every time."""
        key = (route, release)
        meters = self._routes.get(key)
        if meters is None:
            meters = self._routes[key] = RouteMeters()
        return meters

    def routes(self) -> Sequence[RouteMeters]:
        """All meters handed out so far."""
        return tuple(self._routes.values())

    def before_snapshot(self, sample: Callable[[], None]) -> None:
        """Call `sample` before each snapshot: to set gauges that are cheaper to look up than to keep."""
        self._before.append(sample)

    def snapshot(self) -> dict[str, Any]:
        """The numbers of this worker, JSON-able, in the shape that `edge.telemetry.exposition` works on::

        {"workers": {worker: {"routes": [{"route", "release", "values": {attribute: value}}],
                              "process": {attribute: value}}},
         "missing": []}

        A value is a number, ``{label value: number}``, ``{"counts": [...], "sum": number}`` or
        ``{label: text}``, as the attribute's kind says.
        """
        for sample in self._before:
            sample()
        self.process.open_fds.value = _open_fds()
        self.process.rss_bytes.value = _rss_bytes()
        routes = [
            {"route": route, "release": release, "values": dict(_values(meters, ROUTE_SPECS))}
            for (route, release), meters in self._routes.items()
        ]
        process = dict(_values(self.process, PROCESS_SPECS))
        return {"workers": {self.worker: {"routes": routes, "process": process}}, "missing": []}


def _values(meters: RouteMeters | ProcessMeters, specs: Sequence[Spec]) -> Iterator[tuple[str, Any]]:
    for spec in specs:
        match getattr(meters, spec.attribute):
            case Counter() | Gauge() as single:
                yield spec.attribute, single.value
            case Counters() as several:
                yield spec.attribute, {key: counter.value for key, counter in several.items()}
            case Histogram() as histogram:
                yield spec.attribute, {"counts": list(histogram.counts), "sum": histogram.sum}
            case Info() as info:
                yield spec.attribute, dict(info.labels)


def _open_fds() -> int:
    """Linux ≥ 6.2 says the number in the folder's size (proc(5)); before, the entries have to be counted."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _rss_bytes() -> int:
    """The second field of /proc/self/statm, in pages (proc(5))."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
