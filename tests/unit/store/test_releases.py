"""Release tables are replaced whole, by whoever read them last; an office has one holder."""

from __future__ import annotations

import asyncio

import pytest

from edge.errors import StoreRefused
from edge.model.release import StoredTable
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge


async def test_a_table_is_kept_per_app(edge: Edge, other: Edge) -> None:
    document = {"releases": {"abc": {"url": "http://a", "weight": 5}}, "canary": None}
    assert await edge.store.write_releases("chat", document, 0)
    assert await edge.store.write_releases("mail", {}, 0)
    assert await other.store.releases("chat") == StoredTable(1, document)
    assert await other.store.releases("mail") == StoredTable(1, {})
    assert await other.store.releases("none") == StoredTable()


async def test_who_read_an_older_table_writes_nothing(edge: Edge, other: Edge) -> None:
    assert await edge.store.write_releases("chat", {"by": "edge"}, 0)
    assert not await other.store.write_releases("chat", {"by": "other"}, 0)
    assert await other.store.releases("chat") == StoredTable(1, {"by": "edge"})
    assert await other.store.write_releases("chat", {"by": "other"}, 1)
    assert await edge.store.releases("chat") == StoredTable(2, {"by": "other"})


async def test_of_many_who_write_at_once_one_succeeds(edge: Edge, other: Edge) -> None:
    writes = [e.store.write_releases("chat", {"by": n}, 0) for n in range(20) for e in (edge, other)]
    assert sum(await asyncio.gather(*writes)) == 1


async def test_a_table_that_cannot_be_stored_is_refused(edge: Edge) -> None:
    with pytest.raises(StoreRefused):
        await edge.store.write_releases("chat", {"x": object()}, 0)


async def test_an_office_has_one_holder_until_it_lets_go(edge: Edge, other: Edge) -> None:
    assert await edge.store.hold_office("keeper", "e1", 200)
    assert not await other.store.hold_office("keeper", "e2", 60_000)
    assert await edge.store.hold_office("keeper", "e1", 200)
    assert await other.store.hold_office("baker", "e2", 60_000)

    async def free() -> bool:
        return await other.store.hold_office("keeper", "e2", 60_000)

    await wait_until(free, "the first holder's time is over")
    assert not await edge.store.hold_office("keeper", "e1", 200)
