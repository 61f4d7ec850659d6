"""Publishing to GRIP channels: items go to the store, and from there to every edge.

One way in for the control port, ZeroMQ and whoever else publishes items. Promises: the items of one call reach the
store in their order; an item whose id was published before (within `id_cache_s`, over all edges) goes nowhere.
"""

from __future__ import annotations

from asyncio import Future, gather, wait
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.config import GripSettings
from edge.errors import StoreUnavailable
from edge.protocol.grip.bus import pack_item
from edge.protocol.grip.items import Item
from edge.sessions.grip.channels import GRIP_PREFIX
from edge.sessions.grip.fan_out import formats_of
from edge.sessions.post import Post
from edge.store.base import HistoryPolicy, Published, Store
from edge.telemetry.metrics import Metrics

AT_ONCE = 500
"""Items of one call that are on their way to the store at once: fewer than may wait for Redis (`store_queue`)."""
COUNTED_FIRST_S = 0.2
"""How long items wait for the count of their receivers."""
NO_HISTORY = HistoryPolicy()
ID_MS = 1_000
"""A channel's newest item with an id is kept for this long at least."""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item. `receivers`: clients over all edges that are subscribed to its channel and take one of
    its formats, as far as the edges answered in time; 0 for a duplicate; None: not asked for."""

    channel: str
    duplicate: bool
    receivers: int | None = None


class ItemPublisher:
    """See the module's docstring."""

    def __init__(self, store: Store, post: Post, metrics: Metrics, settings: Callable[[], GripSettings]) -> None:
        self._store = store
        self._post = post
        self._published = metrics.process.items_published
        self._settings = settings

    async def publish(self, items: Sequence[Item], *, count: bool = False) -> Sequence[ItemResult]:
        """Publish `items`. With `count` each result says how many receivers there were, for a round trip more.

        Raises StoreUnavailable, whose text says how many of them were not accepted; those with an id may safely be
        published again."""
        edges = await self._store.edges() if count and items else {}
        results: list[ItemResult] = []
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            # Asked first, delivered after: a long-poll that is answered is no member any more. But an edge that does
            # not answer keeps nobody waiting for what is published.
            counting = self._post.count_receivers(_questions(some), edges) if count else None
            if counting is not None:
                await wait([counting], timeout=COUNTED_FIRST_S)
            outcomes = await gather(*[self._publish(item) for item in some], return_exceptions=True)
            self._check(outcomes, len(results), len(items))
            receivers: Sequence[int | None] = [None] * len(some) if counting is None else await counting
            for item, outcome, counted in zip(some, outcomes, receivers, strict=True):
                assert isinstance(outcome, Published)
                if counted and outcome.duplicate:
                    counted = 0
                results.append(ItemResult(item.channel, outcome.duplicate, counted))
        return results

    async def recover(self) -> None:
        """Every edge forgets the newest ids and has backends asked what their clients may have missed. Raises
        StoreUnavailable when other edges could not be told; this one has done it."""
        await self._post.tell_recover()

    def _publish(self, item: Item) -> Future[Published]:
        settings = self._settings()
        ttl_ms = int(settings.id_cache_s * 1_000)
        # The newest item with an id stays for those who come to the channel after it and compare.
        ordered = item.id is not None and not item.no_seq
        policy = HistoryPolicy(1, max(ID_MS, int(settings.subscription_linger_s * 1_000))) if ordered else NO_HISTORY
        return self._store.publish(
            GRIP_PREFIX + item.channel,
            pack_item(item),
            policy,
            id=item.id if ttl_ms else None,
            id_ttl_ms=ttl_ms,
        )

    def _check(self, outcomes: Sequence[Published | BaseException], before: int, total: int) -> None:
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for outcome in outcomes:
            if isinstance(outcome, Published):
                self._published["duplicate" if outcome.duplicate else "accepted"].value += 1
        if not failed:
            return
        missing = total - before - (len(outcomes) - len(failed))
        self._published["failed"].value += missing
        for error in failed:
            if not isinstance(error, StoreUnavailable):
                raise error
        raise StoreUnavailable(f"{missing} of {total} items were not published: {failed[0]}") from failed[0]


def _questions(items: Sequence[Item]) -> Sequence[tuple[str, Sequence[str]]]:
    return [(item.channel, formats_of(item)) for item in items]
