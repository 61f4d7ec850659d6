"""Redis goes away and comes back: what waits finishes or is refused in time, and everything is heard again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StoreUnavailable
from edge.store.base import HistoryPolicy, Patch
from tests.support.redis import RedisCluster, RedisServer, SentinelSetup, local_server
from tests.support.reply_holder import ReplyHolder
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge, OpenEdge, row

KEEP = HistoryPolicy(100, 0)


async def test_a_thousand_commands_of_one_tick_are_one_round_trip(
    open_edge: OpenEdge, redis_url: str, prefix: str
) -> None:
    edge = await open_edge(redis_url, prefix)
    await edge.store.register(row("s1", edge.id))
    before = edge.store.round_trips
    commits = [edge.store.commit(Patch("s1", 1, state_set={"n": n})) for n in range(500)]
    publications = [edge.store.publish("room", str(n), KEEP) for n in range(500)]
    assert edge.store.health().waiting == 1_000
    assert [(await c).version for c in commits] == list(range(1, 501))
    assert [(await p).position.offset for p in publications] == list(range(1, 501))
    assert edge.store.round_trips == before + 1
    assert edge.store.health().waiting == 0


async def test_commands_gather_while_a_pipeline_is_out(open_edge: OpenEdge, redis_url: str, prefix: str) -> None:
    edge = await open_edge(redis_url, prefix)
    before = edge.store.round_trips
    first = edge.store.load("a")
    await asyncio.sleep(0)
    rest = []
    for n in range(50):
        rest.append(edge.store.load(f"b{n}"))
        if n < 3:
            await asyncio.sleep(0)
    await asyncio.gather(first, *rest)
    assert edge.store.round_trips <= before + 4


async def test_scripts_that_were_flushed_are_loaded_again_and_order_is_kept(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    edge = await open_edge(redis_server.url)
    await edge.store.register(row("s1", edge.id))
    for round_ in range(3):
        with redis_server.client() as client:
            client.script_flush()
        commits = [edge.store.commit(Patch("s1", 1, state_set={"n": n})) for n in range(20)]
        published = edge.store.publish("room", "x", KEEP)
        versions = [(await commit).version for commit in commits]
        assert versions == list(range(round_ * 20 + 1, round_ * 20 + 21))
        assert (await published).position.offset == round_ + 1


async def test_after_sigkill_and_restart_waiting_commands_finish_and_the_bus_is_back(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    edge, other = await open_edge(redis_server.url), await open_edge(redis_server.url)
    changes: list[bool] = []
    edge.store.on_health(changes.append)
    await edge.store.register(row("s1", edge.id))
    await asyncio.gather(edge.store.subscribe("a"), edge.store.subscribe("b"))
    first = await other.store.publish("a", "before", KEEP)
    await wait_until(lambda: edge.ears.publications, "it is heard")
    redis_server.kill()
    await wait_until(lambda: edge.ears.interruptions == 1 and changes == [False], "the loss is noticed")
    assert not edge.store.health().up
    waiting = [edge.store.commit(Patch("s1", 1, state_set={"n": n}, action_ids=(f"i{n}",))) for n in range(10)]
    new = edge.store.subscribe("c")
    redis_server.restart(keep_data=True)
    answers = await asyncio.gather(*waiting)
    assert [a.version for a in answers] == list(range(1, 11))
    assert not any(a.repeated for a in answers)
    await new
    await wait_until(lambda: edge.ears.restored, "the bus is restored")
    assert sorted(edge.ears.restored[0]) == ["a", "b"]
    assert changes == [False, True]
    second = await other.store.publish("a", "after", KEEP)
    await wait_until(lambda: [p.payload for p in edge.ears.publications] == ["before", "after"], "it is heard again")
    assert (second.position.offset, second.position.epoch) == (2, first.position.epoch)


async def test_waiting_commands_are_refused_by_their_deadline(open_edge: OpenEdge, redis_server: RedisServer) -> None:
    edge = await open_edge(redis_server.url, store_wait_s=0.3)
    redis_server.kill()
    began = time.monotonic()
    store = edge.store
    refused: list[asyncio.Future[Any]] = [store.load("s1"), store.publish("room", "x", KEEP), store.subscribe("room")]
    for future in refused:
        with pytest.raises(StoreUnavailable):
            await future
    assert 0.2 <= time.monotonic() - began < 5
    assert edge.store.health().waiting == 0
    redis_server.restart(keep_data=True)
    await wait_until(lambda: edge.store.health().up, "Redis is back")
    assert await edge.store.load("s1") is None

    async def subscribed() -> bool:
        # The bus comes back in its own time, which may be longer than this store waits.
        with contextlib.suppress(StoreUnavailable):
            await edge.store.subscribe("room")
            return True
        return False

    await wait_until(subscribed, "the bus is back")


async def test_a_server_that_falls_silent_is_taken_for_dead(open_edge: OpenEdge, redis_server: RedisServer) -> None:
    edge = await open_edge(redis_server.url, store_wait_s=0.3)
    redis_server.pause()
    try:
        refused = edge.store.publish("room", "x", KEEP)
        with pytest.raises(StoreUnavailable, match=r"did not answer in time|Redis stayed away"):
            await refused
        assert not edge.store.health().up
    finally:
        redis_server.go_on()
    await wait_until(lambda: edge.store.health().up, "Redis answers again")
    assert (await edge.store.publish("room", "y", KEEP)).position.offset in (1, 2)


async def test_past_the_queue_commands_are_refused_at_once(open_edge: OpenEdge, redis_server: RedisServer) -> None:
    edge = await open_edge(redis_server.url, store_wait_s=20.0, store_queue=5)
    redis_server.kill()
    await wait_until(lambda: not edge.store.health().up, "the loss is noticed")
    kept = [edge.store.load(str(n)) for n in range(5)]
    refused = edge.store.load("one too many")
    assert isinstance(refused.exception(), StoreUnavailable)
    redis_server.restart(keep_data=True)
    assert await asyncio.gather(*kept) == [None] * 5
    assert await edge.store.load("room again") is None


async def test_a_command_nobody_waits_for_any_more_harms_no_other(open_edge: OpenEdge, redis_url: str) -> None:
    edge = await open_edge(redis_url)
    first, second = edge.store.load("a"), edge.store.load("b")
    first.cancel()
    assert await second is None
    assert edge.store.health().waiting == 0


async def test_after_losing_all_data_a_lease_is_fresh_again(open_edge: OpenEdge, redis_server: RedisServer) -> None:
    edge = await open_edge(redis_server.url)
    await edge.store.renew(edge.id, 60_000, {})
    old = (await edge.store.publish("room", "x", KEEP)).position
    redis_server.kill()
    redis_server.restart(keep_data=False)
    assert (await edge.store.renew(edge.id, 60_000, {})).kind == "fresh"
    new = (await edge.store.publish("room", "y", KEEP)).position
    assert new.offset == 1
    assert new.epoch != old.epoch
    assert not (await edge.store.history("room", old, 10)).whole


async def test_starting_without_redis_is_refused_in_time_and_goes_on_trying(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    redis_server.stop()
    secret_url = redis_server.url.replace("redis://", "redis://user:hunter2@")
    with_login = await open_edge(secret_url, start=False, store_wait_s=0.2)
    with pytest.raises(StoreUnavailable) as refused:
        await with_login.store.start(with_login.ears.listener())
    edge = await open_edge(redis_server.url, start=False, store_wait_s=0.2)
    with pytest.raises(StoreUnavailable):
        await edge.store.start(edge.ears.listener())
    redis_server.start()
    await wait_until(lambda: edge.store.health().up, "Redis is found")
    await wait_until(lambda: "AUTH" in with_login.store.health().error, "the login is refused")
    for text in (str(refused.value), with_login.store.health().error, repr(with_login.store)):
        assert "hunter2" not in text


async def test_a_password_opens_and_closing_finishes_what_is_queued(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("requirepass", "p w/@:")
    edge = await open_edge(redis_server.url.replace("redis://", "redis://:p%20w%2F%40%3A@"))
    queued = edge.store.publish("room", "x", KEEP)
    await edge.store.close()
    assert (await queued).position.offset == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        await edge.store.load("s1")


async def test_a_cluster_node_that_was_killed_comes_back(
    open_edge: OpenEdge, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with RedisCluster(tmp_path_factory.mktemp("c")) as cluster:
        edge = await open_edge(cluster.url, store_wait_s=20.0)
        rooms = [f"room {n}" for n in range(30)]
        await asyncio.gather(*(edge.store.subscribe(room) for room in rooms))
        victim = cluster.nodes[1]
        victim.kill()
        await wait_until(lambda: not edge.store.health().up and edge.ears.interruptions, "the loss is noticed")
        loads = [edge.store.load(f"s{n}") for n in range(30)]
        victim.start()
        assert await asyncio.gather(*loads) == [None] * 30
        await wait_until(lambda: edge.ears.restored, "the bus is restored")
        restored = {channel for channels in edge.ears.restored for channel in channels}
        assert restored
        assert restored < set(rooms)
        await wait_until(lambda: edge.store.health().up, "the cluster is whole")
        await asyncio.gather(*(edge.store.publish(room, room, HistoryPolicy()) for room in rooms))
        await wait_until(lambda: len(edge.ears.publications) == 30, "every room is heard")


async def test_a_slot_that_moves_takes_its_keys_order_and_subscriptions_along(
    open_edge: OpenEdge, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with RedisCluster(tmp_path_factory.mktemp("c")) as cluster:
        edge = await open_edge(cluster.url, store_wait_s=20.0)
        await edge.store.subscribe("room")
        before = await edge.store.publish("room", "0", KEEP)
        move_slot(cluster, "hf:c:{room}")
        answers = await asyncio.gather(*(edge.store.publish("room", str(n), KEEP) for n in range(1, 21)))
        assert [a.position.offset for a in answers] == list(range(2, 22))
        assert {a.position.epoch for a in answers} == {before.position.epoch}
        await wait_until(lambda: edge.ears.restored == [["room"]], "the subscription has moved")
        await edge.store.publish("room", "moved", KEEP)
        await wait_until(lambda: edge.ears.publications[-1].payload == "moved", "it is heard at the new place")


def move_slot(cluster: RedisCluster, key: str) -> None:
    """As `redis-cli --cluster reshard` does it: MIGRATING, IMPORTING, MIGRATE, then everybody is told."""
    clients: list[Any] = [node.client() for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
    slot = int(clients[0].execute_command("CLUSTER KEYSLOT", key))
    source = slot * 3 // 16_384
    if slot < source * 16_384 // 3:
        source -= 1
    target = (source + 1) % 3
    clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    keys = clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
    port = cluster.nodes[target].port
    clients[source].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys)
    for each in (target, source, (target + 1) % 3):
        clients[each].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    for client in clients:
        client.close()


async def test_a_sentinel_failover_is_followed(open_edge: OpenEdge, tmp_path_factory: pytest.TempPathFactory) -> None:
    local_server()
    with SentinelSetup(tmp_path_factory.mktemp("s")) as setup:
        edge = await open_edge(setup.url, store_wait_s=20.0)
        await edge.store.subscribe("room")
        await edge.store.publish("room", "before", KEEP)
        with setup.replica.client() as client:
            await wait_until(lambda: client.llen("hf:h:{room}") == 1, "the replica has it too")
        setup.master.kill()
        await wait_until(lambda: edge.ears.interruptions, "the loss is noticed")
        after = await edge.store.publish("room", "after", KEEP)
        assert after.position.offset == 2
        await wait_until(lambda: edge.ears.restored, "the bus is restored")
        await edge.store.publish("room", "heard", KEEP)
        await wait_until(lambda: edge.ears.publications[-1].payload == "heard", "the new master is heard")


async def answered_never(edge: Edge, server: RedisServer, holder: ReplyHolder, channel: str) -> asyncio.Future[Any]:
    """A publication (without an id) that Redis has accepted and whose answer is on its way, when Redis dies."""
    holder.hold()
    publication = edge.store.publish(channel, "x", KEEP)
    with server.client() as client:
        await wait_until(lambda: client.llen(f"hf:h:{{{channel}}}") == 1, "Redis has accepted it")
    assert not publication.done()
    return publication


async def test_a_publication_that_redis_took_to_its_grave_is_published_once(
    open_edge: OpenEdge, tmp_path: Path
) -> None:
    durable = RedisServer(tmp_path / "redis", "appendonly yes", "appendfsync always")
    with durable as server:
        async with ReplyHolder(server.port) as holder:
            edge = await open_edge(holder.url, store_wait_s=20.0)
            publication = await answered_never(edge, server, holder, "room")
            server.kill()
            holder.cut()
            holder.let_go()
            server.restart(keep_data=True)
            published = await publication
            assert (published.position.offset, published.duplicate) == (1, True)
            later = await edge.store.publish("room", "later", KEEP)
            assert later.position.offset == 2
            page = await edge.store.history("room", None, 10)
            assert [p.payload for p in page.publications] == ["x", "later"]


async def test_a_publication_whose_connection_broke_is_heard_once(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    async with ReplyHolder(redis_server.port) as holder:
        edge, other = await open_edge(holder.url, store_wait_s=20.0), await open_edge(redis_server.url)
        await other.store.subscribe("room")
        publication = await answered_never(edge, redis_server, holder, "room")
        holder.cut()
        holder.let_go()
        await publication
        await edge.store.publish("room", "later", KEEP)
        await wait_until(lambda: other.ears.publications[-1].payload == "later", "the later one is heard")
        assert [p.payload for p in other.ears.publications] == ["x", "later"]


async def test_a_commit_whose_connection_broke_has_its_effect_and_its_action_ids_once(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    async with ReplyHolder(redis_server.port) as holder:
        edge = await open_edge(holder.url, store_wait_s=20.0)
        await edge.store.register(row("s1", edge.id))
        holder.hold()
        commit = edge.store.commit(Patch("s1", 1, state_set={"n": 1}, action_ids=("a",)))
        with redis_server.client() as client:
            await wait_until(lambda: client.exists("hf:a:{s1}:a"), "Redis has applied it")
        assert not commit.done()
        holder.cut()
        holder.let_go()
        committed = await commit
        assert (committed.version, committed.repeated) == (1, frozenset())
        again = await edge.store.commit(Patch("s1", 1, action_ids=("a",)))
        assert again.repeated == {"a"}


async def test_action_ids_of_a_commit_that_was_refused_are_unused_even_if_it_ran(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    async with ReplyHolder(redis_server.port) as holder:
        edge = await open_edge(holder.url, store_wait_s=0.5)
        await edge.store.register(row("s1", edge.id))
        await edge.store.commit(Patch("s1", 1, action_ids=("used",)))
        holder.hold()
        refused = edge.store.commit(Patch("s1", 1, action_ids=("used", "a", "b")))
        with redis_server.client() as client:
            await wait_until(lambda: client.exists("hf:a:{s1}:b"), "Redis has applied it")
        with pytest.raises(StoreUnavailable):
            await refused
        holder.let_go()
        await wait_until(lambda: edge.store.health().up, "the store is back")
        assert (await edge.store.commit(Patch("s1", 1, action_ids=("used", "a")))).repeated == {"used"}
        assert (await edge.store.commit(Patch("s1", 1, action_ids=("a", "b")))).repeated == {"a"}
        assert (await edge.store.commit(Patch("s1", 1, action_ids=("b",)))).repeated == {"b"}
