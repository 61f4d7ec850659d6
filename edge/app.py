"""The wiring: builds the edge of one worker process out of its parts, and is what the worker's frame drives.

Nothing is decided here. Each part is made once and given what it needs; `Services` is how sessions reach the others.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import platform
import random
import signal
from asyncio import Future
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import chain, islice

from edge.backend.base import Release
from edge.backend.client import BackendClient
from edge.backend.origins import BackendOrigins
from edge.backend.probe import probe
from edge.backend.webhook import Webhook
from edge.clock import SystemClock
from edge.config import GripRouteSettings, GripSettings, RouteSettings, Settings, XmppSettings
from edge.control.app import control_app
from edge.control.zmq_inputs import ZmqInputs
from edge.errors import HoldfastError, StoreUnavailable
from edge.ids import new_edge_id
from edge.lifecycle.server import Listener
from edge.lifecycle.worker import WorkerContext
from edge.links.dialer import XmppDialer
from edge.links.pacing import Pacer
from edge.links.vault import Vault
from edge.model.phases import Phase
from edge.model.release import StoredTable
from edge.sessions.channels import ChannelPolicies
from edge.sessions.doors import Doors
from edge.sessions.grip.channels import GripChannels, is_grip
from edge.sessions.grip.door import GripDoor
from edge.sessions.grip.ports import Held
from edge.sessions.grip.publisher import ItemPublisher
from edge.sessions.grip.services import GripServices, HeldClients
from edge.sessions.hub import Hub
from edge.sessions.inquiries import Inquiries
from edge.sessions.journal import Journal
from edge.sessions.keeper import Keeper
from edge.sessions.links.house import House
from edge.sessions.links.link_post import LinkPost
from edge.sessions.links.services import LinkServices
from edge.sessions.local_session import LocalSession
from edge.sessions.mover import Mover
from edge.sessions.operations import LocalOperations
from edge.sessions.ownership import Ownership
from edge.sessions.post import Post
from edge.sessions.registry import FrontDoor, Registry
from edge.sessions.releases import Releases
from edge.sessions.routes import RouteHandle, Routes
from edge.sessions.services import Services
from edge.store.base import BusListener, Publication
from edge.store.redis import open_store
from edge.telemetry.metrics import Metrics
from edge.telemetry.siblings import Siblings, serve_snapshots, socket_path
from edge.transports.http import ClientHttp, no_app
from edge.transports.reception import Reception
from edge.wheel import Wheel

_log = logging.getLogger("holdfast.edge")

RELEASES_AGAIN_MS = 1_000
"""Release tables are read again this often, in case the news of a change was lost on the way: one command for each app,
in a pipeline, so that a change is known everywhere within a second or so whatever happens to the mail."""
LAG_SAMPLE_MS = 1_000
CLOSABLE = (Phase.OPENING, Phase.LIVE)


class Edge:
    """One worker's edge: a `Worker` (edge.lifecycle.worker). Built inside the loop that runs it."""

    def __init__(self, context: WorkerContext) -> None:
        settings = context.settings
        loop = asyncio.get_running_loop()
        clock = SystemClock()
        self._context = context
        self._settings = settings
        self._starting = True
        self._draining = False
        self._giving_away: asyncio.Task[int] | None = None
        self._wheel = Wheel(clock)
        self._metrics = Metrics(
            str(context.index), {"version": version("holdfast"), "python": platform.python_version()}
        )
        edge_id = new_edge_id(context.index)
        store = open_store(settings.edge, edge_id, clock, meters=self._metrics.process)
        policies = ChannelPolicies(settings.channels)
        post = Post()
        house = House()
        journal = Journal(settings.edge.life_entries)
        self._backends = BackendClient(edge_id, clock, self._wheel, self._metrics, loop, note=journal.note)
        self._services = services = Services(
            edge_id=edge_id,
            clock=clock,
            wheel=self._wheel,
            metrics=self._metrics,
            store=store,
            deliverer=self._backends,
            policies=policies,
            hub=Hub(store, policies.of, self._metrics.process),
            registry=Registry(),
            releases=Releases(self._releases_changed),
            post=post,
            journal=journal,
        )
        self._mover = Mover(clock, self._wheel, services.releases, lambda: chain(services.registry, house))
        post.services, post.house, post.links = services, house, LinkPost(house, post)
        post.inquiries = Inquiries(services)
        post.releases_changed = self._read_releases
        services.registry.on_removed = house.client_ended
        self._house = house
        self._post = post
        house.services = LinkServices(
            shared=services,
            loop=loop,
            dialer=XmppDialer(clock),
            pacer=Pacer(clock, self._wheel, random.random),
            vault=_vault(settings),
            server=self._server,
            find_route=self._find_route,
            random=random.random,
            house=house,
        )
        self._servers = {server.domain: server for server in settings.xmpp}
        self._routes = Routes(settings.routes, self._metrics)
        self._grip_channels = grip = GripChannels(
            store, self._wheel, clock, self._metrics, lambda: self._settings.grip, self._grip_route
        )
        post.receivers, post.recover = grip.receivers, grip.recover
        self._items = ItemPublisher(store, post, self._metrics, lambda: self._settings.grip)
        self._origins = BackendOrigins(clock, self._wheel, self._metrics, loop)
        self._held = HeldClients()
        grip_door = GripDoor(
            GripServices(
                clock=clock,
                wheel=self._wheel,
                metrics=self._metrics,
                origins=self._origins,
                channels=self._grip_channels,
                releases=services.releases,
                held=self._held,
                random=random.random,
            )
        )
        self._reception = Reception(
            settings.edge,
            self._routes,
            Doors(FrontDoor(services), grip_door),
            http_door=grip_door,
            wheel=self._wheel,
            clock=clock,
            loop=loop,
        )
        self._ownership = Ownership(
            services,
            lease_ms=int(settings.edge.lease_s * 1_000),
            info={"worker": str(context.index), "pid": str(os.getpid())},
            find_route=self._find_route,
            on_lost=self._declared_dead,
            house=house,
        )
        post.links_freed = self._ownership.links_freed
        # The sockets can be bound once only: the first worker takes items for all.
        inputs = settings.grip if context.index == 0 else GripSettings()
        self._zmq = ZmqInputs(inputs, self._items, self._metrics, clock)
        operations = LocalOperations(
            services,
            lambda: self._routes,
            items=self._items,
            check=probe,
            drain=context.ask_drain,
            readiness=self.readiness,
        )
        post.routes = self._routes_of
        post.shadow = self._backends.shadows.figures
        self._webhook = Webhook(self._webhook_target)
        self._keeper = Keeper(edge_id, store, operations, probe, clock, self._apps, self._webhook.tell)
        tls = (settings.edge.tls_cert, settings.edge.tls_key) if settings.edge.tls_cert else None
        self._public = Listener(
            no_app,
            addresses=context.listen,
            http=functools.partial(ClientHttp, self._reception),
            tls=tls,
        )
        workers = [str(index) for index in range(settings.edge.workers)]
        self._control = Listener(
            control_app(
                operations,
                Siblings(self._metrics, context.run_dir, workers).gather,
                bind=str(context.control),
                tokens=lambda: self._settings.edge.control_tokens,
                publishers=lambda: self._settings.publishers,
                publish_bytes=lambda: self._settings.grip.publish_bytes,
            ),
            addresses=(context.control,),
        )
        self._inward = Listener(serve_snapshots(self._metrics), unix=socket_path(context.run_dir, str(context.index)))

    # Worker: up and down.

    async def start(self) -> None:
        """Connect to Redis, take the lease, listen. Redis being away is no reason not to start: `readiness` says so.

        The control port is first: who asks is told that we are starting, however long Redis takes to answer."""
        services = self._services
        self._wheel.start(asyncio.get_running_loop())
        self._reception.start()
        self._metrics.before_snapshot(self._sample)
        listener = BusListener(
            publication=self._publication,
            mail=services.post.received,
            interrupted=self._bus_interrupted,
            restored=self._bus_restored,
        )
        await self._inward.start()
        await self._control.start()
        try:
            await services.store.start(listener)
        except StoreUnavailable as error:
            _log.error("starting without Redis: %s", error)
        self._zmq.start()
        await self._ownership.start()
        self._keep_releases()
        self._keeper.start()
        self._watch_lag(services.clock.monotonic_ms())
        await self._public.start()
        self._starting = False
        _settle_memory()
        _log.info("edge %s is up", services.edge_id)

    def reload(self, settings: Settings) -> None:
        """New routes, secrets, channels and limits; what belongs to sockets and to Redis stays as it was started."""
        # What can fail comes first: nothing may have changed by then.
        vault = _vault(settings)
        self._public.renew_certificate()
        self._settings = settings
        self._servers = {server.domain: server for server in settings.xmpp}
        self._house.services.vault = vault
        self._house.services.dialer.forget()
        self._routes.replace(settings.routes)
        self._reception.replace(settings.edge)
        self._services.journal.resize(settings.edge.life_entries)
        self._grip_channels.reloaded()
        self._services.policies.replace(settings.channels)
        self._services.releases.forget_tables()
        self._read_all_releases()

    def readiness(self) -> list[str]:
        """Why this worker should get no new connections; empty: ready."""
        reasons = []
        if self._starting:
            reasons.append("starting")
        if self._draining:
            reasons.append("draining")
        health = self._services.store.health()
        if not health.up:
            reasons.append(f"store away: {health.error}" if health.error else "store away")
        return reasons

    async def stop(self) -> None:
        services = self._services
        for session in services.registry:
            session.leave_now()
        for held in self._held:
            held.leave_now()
        self._mover.stop()
        await self._keeper.stop()
        await self._webhook.stop()
        await self._backends.shadows.stop()
        await self._zmq.stop()
        await self._give_away()
        await self._ownership.stop()
        self._backends.close()
        self._origins.close()
        await self._public.stop()
        await self._control.stop()
        await self._inward.stop()
        await services.store.close()
        self._reception.stop()
        self._wheel.stop()

    # Drainable.

    def begin_drain(self) -> None:
        self._draining = True

    def stop_accepting(self) -> None:
        self._public.stop_accepting()
        self._public.finish_connections()
        if len(self._house):
            self._giving_away = asyncio.get_running_loop().create_task(self._house.give_away_all())

    def clients(self) -> int:
        return sum(1 for _ in self._closable())

    def close_clients(self, count: int) -> None:
        for client in islice(self._closable(), count):
            client.leave(1012, "service restart", "drain")

    def unfinished(self) -> int:
        return len(self._services.registry) + len(self._held) + len(self._house) + self._post.undone

    # Inside.

    async def _give_away(self) -> None:
        """What was begun when the listeners closed, or all of it now."""
        if self._giving_away is None:
            self._giving_away = asyncio.get_running_loop().create_task(self._house.give_away_all())
        await asyncio.gather(self._giving_away, return_exceptions=True)

    def _closable(self) -> Iterator[LocalSession | Held]:
        yield from (session for session in self._services.registry if session.model.phase in CLOSABLE)
        yield from (held for held in self._held if held.closable)

    def _publication(self, publication: Publication) -> None:
        if is_grip(publication.channel):
            self._grip_channels.publication(publication)
        else:
            self._services.hub.publication(publication)

    def _bus_interrupted(self) -> None:
        _log.warning("the bus between edges is interrupted")
        self._services.hub.interrupted()
        self._grip_channels.interrupted()

    def _bus_restored(self, channels: Sequence[str]) -> None:
        self._services.hub.restored(channels)
        self._grip_channels.restored(channels)

    def _route_settings(self) -> Sequence[RouteSettings]:
        return [route.settings for route in self._routes]

    def _grip_route(self, name: str) -> GripRouteSettings | None:
        route = self._routes.named(name)
        return route.settings.grip if route is not None else None

    def _find_route(self, name: str, app: str) -> RouteHandle | None:
        """The route of a session that another edge held: by name, else any of its app."""
        candidates = [route for route in self._routes if route.settings.app == app]
        return next((route for route in candidates if route.name == name), candidates[0] if candidates else None)

    def _server(self, domain: str) -> XmppSettings | None:
        """Where links to addresses of `domain` go."""
        return self._servers.get(domain)

    def _declared_dead(self) -> None:
        """Another edge took our sessions. Go down at once; the supervisor starts a new edge in our place."""
        self._public.stop_accepting()
        os.kill(os.getpid(), signal.SIGTERM)

    def _keep_releases(self) -> None:
        self._read_all_releases()
        self._wheel.after(RELEASES_AGAIN_MS, self._keep_releases)

    def _read_all_releases(self) -> None:
        for app in self._apps():
            self._read_releases(app)

    def _read_releases(self, app: str) -> None:
        def read(answer: Future[StoredTable]) -> None:
            # Without Redis the table known last stands.
            if not answer.cancelled() and answer.exception() is None:
                self._services.releases.update(app, answer.result())

        self._services.store.releases(app).add_done_callback(read)

    def _set_shadows(self) -> None:
        for route in self._route_settings():
            table = self._services.releases.table(route)
            shadow = table.shadow
            release = None if shadow is None else Release(route.app, shadow.sha, table.entry(shadow.sha).url)
            self._backends.shadows.set(route.app, release, 0 if shadow is None else shadow.share)

    def _apps(self) -> Sequence[str]:
        return sorted({route.settings.app for route in self._routes})

    def _routes_of(self, app: str) -> Sequence[str]:
        return [route.name for route in self._routes if route.settings.app == app]

    def _webhook_target(self) -> tuple[str, str]:
        edge = self._settings.edge
        return edge.release_webhook, edge.release_webhook_secret.value if edge.release_webhook_secret else ""

    def _releases_changed(self) -> None:
        self._set_shadows()
        self._backends.releases_changed()
        self._mover.wake()

    def _watch_lag(self, due_ms: int) -> None:
        now_ms = self._services.clock.monotonic_ms()
        self._metrics.process.loop_lag_seconds.value = max(0, now_ms - due_ms) / 1_000
        next_ms = now_ms + LAG_SAMPLE_MS
        self._wheel.at(next_ms, lambda: self._watch_lag(next_ms))

    def _sample(self) -> None:
        health = self._services.store.health()
        process = self._metrics.process
        process.store_up.value = int(health.up)
        process.store_waiting.value = health.waiting
        for meters in self._metrics.routes():
            meters.queue_events.value = 0
        for session in self._services.registry:
            session.meters.queue_events.value += session.model.unsettled
        process.links.value = len(self._house)
        process.link_events_waiting.value = sum(link.ledger.backlog.waiting for link in self._house)


def _vault(settings: Settings) -> Vault:
    """Where no link can be, no key is made. Raises VaultError."""
    return Vault.of(settings) if settings.xmpp else Vault([os.urandom(32)])


def _settle_memory() -> None:
    """What was made so far stays; do not look at it again. And look at the young less often: nearly everything that
    a message makes is freed by its reference count, while each full collection walks all idle connections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)


async def build(context: WorkerContext) -> Edge:
    """What `run_worker` calls. Raises `HoldfastError` when the settings cannot be used after all."""
    try:
        return Edge(context)
    except (ValueError, OSError) as error:
        raise HoldfastError(str(error)) from error
