"""Durable timers: set by an answer, kept by the edge, delivered to whatever backend is there when they are due."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.halls import Guest, House, edge_of, guests, house, reported
from tests.support.processes import Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.telemetry.test_metrics import samples_of, total

pytestmark = pytest.mark.scenario


def rung(here: House, guest: Guest) -> list[tuple[str, Any]]:
    """Timers of the guest that its backend was told of, in order."""
    return [(entry["name"], entry["data"]) for entry in here.noted("timer") if entry["session"] == guest.session]


async def timed_out(edge: Edge) -> bool:
    """The edge has waited for its backend in vain."""
    samples = samples_of((await edge.get("/metrics"))[1])
    return total(samples, "holdfast_backend_request_failures_total", kind="timeout") > 0


async def rings(guest: Guest, answer: str) -> None:
    await guest.client.expect_that(lambda _: answer in guest.heard(), f"the answer to a timer comes: {answer}")


async def test_a_timer_rings_once_even_when_backends_come_and_go(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url) as here, guests(here.edges[0], 20) as everybody:
            for number, guest in enumerate(everybody):
                await guest.ask(f"!timer nap {500 + 10 * number} n{number}", "set timer nap")
            await here.backend.sigkill()
            # One that is due while nobody is there rings late, not never.
            await wait_until(lambda: "is away" in here.edges[0].log(), "a timer has met a backend that is not there")
            await here.backend.start()
            for number, guest in enumerate(everybody):
                await rings(guest, f"timer nap n{number}")
            for guest in everybody:
                await guest.ask("!timer end 0 z", "set timer end")
                await rings(guest, "timer end z")
            for number, guest in enumerate(everybody):
                assert rung(here, guest) == [("nap", f"n{number}"), ("end", "z")]
                assert guest.heard().count(f"timer nap n{number}") == 1


async def test_a_timer_may_be_cancelled_and_set_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url) as here, guests(here.edges[0], 1) as [guest]:
            await guest.ask("!timer never 300 x", "set timer never")
            await guest.ask("!cancel never", "cancelled never")
            await guest.ask("!cancel unknown", "cancelled unknown")
            await guest.ask("!timer moved 3600000 far", "set timer moved")
            await guest.ask("!timer moved 300 near", "set timer moved")
            await guest.ask("!timer later 900 x", "set timer later")
            await rings(guest, "timer later x")
            assert rung(here, guest) == [("moved", "near"), ("later", "x")]
            # A timer that has rung is over, and its name free again.
            await guest.ask("!timer moved 0 again", "set timer moved")
            await rings(guest, "timer moved again")


async def test_a_timer_that_rang_is_not_told_when_it_was_cancelled_before_its_turn(tmp_path: Path) -> None:
    impatient = {"timeouts": {"request_s": 2.0}}
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, route=impatient) as here, guests(here.edges[0], 1) as [guest]:
            await guest.ask("!tangle", "tangled")
            here.backend.freeze()
            try:
                # It waits for the backend, and the timers behind it.
                await guest.client.send("!untangle")
                await wait_until(lambda: timed_out(here.edges[0]), "the edge has given up a request")
            finally:
                here.backend.thaw()
            await rings(guest, "timer moved late")
            await guest.ask("!timer end 0 z", "set timer end")
            await rings(guest, "timer end z")
            assert rung(here, guest) == [("moved", "late"), ("end", "z")]


@pytest.mark.parametrize("killed", [False, True], ids=["client leaves", "edge dies"])
async def test_timers_die_with_their_session(tmp_path: Path, killed: bool) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, 2) as here:
            dying, staying = here.edges
            async with guests(dying, 5) as leaving, guests(staying, 1) as [witness]:
                for guest in leaving:
                    await guest.ask("!timer ghost 3000 x", "set timer ghost")
                    assert await edge_of(staying, guest.session) != await edge_of(staying, witness.session)
                if killed:
                    await dying.sigkill()
                    early = here.noted("timer")
                    await reported(here, leaving)
                else:
                    for guest in leaving:
                        await guest.client.close()
                    await wait_until(lambda: here.closed() >= {guest.session for guest in leaving}, "they are gone")
                    early = here.noted("timer")
                # Set after the others, so due after them.
                await witness.ask("!timer after 3100 x", "set timer after")
                await rings(witness, "timer after x")
                assert here.noted("timer")[len(early) :] == [
                    entry for entry in here.noted("timer") if entry["name"] == "after"
                ]
