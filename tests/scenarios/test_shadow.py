"""A shadow sees what the live release sees, its answers are compared, and no client ever hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.release_control import Control, controlling
from tests.support.client import connect
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
SAID = 30


async def until_compared(control: Control) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def compared() -> bool:
        found[:] = [(await control.table())["shadow"]]
        shadow = found[0]
        done = sum(shadow[name] for name in ("same", "different", "failed", "dropped"))
        return bool(shadow["seen"] >= SAID and done == shadow["seen"])

    await wait_until(compared, "every answer was compared")
    return found[0]


@pytest.mark.parametrize(
    ("environment", "kind"), [({}, "same"), ({"BACKEND_OTHER": "1"}, "different"), ({"BACKEND_FAILS": "1"}, "failed")]
)
async def test_a_shadow_is_compared_and_clients_hear_the_live_release_only(
    tmp_path: Path, environment: dict[str, str], kind: str
) -> None:
    async with (
        Backend(tmp_path, APP, name="live", environment={"BACKEND_SAYS": "live"}) as live,
        Backend(tmp_path, APP, name="next", environment={"BACKEND_SAYS": "live"} | environment) as shadow,
        Edge(
            tmp_path, routes=[{"backend": live.url, "release": "live", "release_urls": [shadow.url]}], workers=2
        ) as edge,
        controlling(edge) as control,
        connect(edge.url()) as one,
        connect(edge.url()) as two,
    ):
        await control.put("next", shadow.url, health="/healthz")
        await control.post("/releases/next/shadow", {"share": 100})
        for number in range(SAID):
            for client in (one, two):
                await client.send(f"{number}")
                assert (await client.expect(number + 1))[-1] == f"{number} live"
        compared = await until_compared(control)
        assert compared[kind] >= SAID
        assert compared[kind] == compared["seen"]
        if kind == "different":
            assert "live?" in compared["differences"][-1]["shadow"]
        assert (await control.sessions()) == {"live": 2, "next": 0}


async def test_a_shadow_that_is_dead_harms_nobody_and_a_share_of_nothing_shows_nothing(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, APP, name="live") as live,
        Backend(tmp_path, APP, name="next") as shadow,
        Edge(tmp_path, routes=[{"backend": live.url, "release": "live", "release_urls": [shadow.url]}]) as edge,
        controlling(edge) as control,
        connect(edge.url()) as client,
    ):
        await control.put("next", shadow.url)
        await control.post("/releases/next/shadow", {"share": 100})
        await shadow.kill_tree()
        for number in range(SAID):
            await client.send(f"{number}")
            assert (await client.expect(number + 1))[-1] == f"{number} live"
        assert (await until_compared(control))["failed"] >= SAID
        assert (await control.delete("/shadow"))["shadow"] is None
        await control.post("/releases/next/shadow", {"share": 0.000001})
        for number in range(SAID, 2 * SAID):
            await client.send(f"{number}")
            await client.expect(number + 1)
        assert (await control.table())["shadow"]["seen"] == 0
