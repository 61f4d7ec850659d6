"""Addresses of a host: looked up rarely, used in turn."""

from __future__ import annotations

import asyncio
import gc

import pytest

from edge.clock import ManualClock
from edge.hosts import SKIP_MS, Addresses


async def test_addresses_are_used_in_turn_and_refused_ones_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    look_ups = 0

    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        nonlocal look_ups
        look_ups += 1
        return [(2, 1, 6, "", (f"10.0.0.{n}", port)) for n in (1, 2, 3)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    clock = ManualClock(monotonic_ms=1_000_000)
    addresses = Addresses("backend.example", 80, clock)
    assert [(await addresses.candidates())[0] for _ in range(4)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]
    addresses.refused("10.0.0.2")
    assert [list(await addresses.candidates())[-1] for _ in range(3)] == ["10.0.0.2"] * 3
    clock.advance(SKIP_MS + 1)
    assert "10.0.0.2" in [(await addresses.candidates())[0] for _ in range(3)]
    assert look_ups == 1
    for n in (1, 2, 3):
        addresses.refused(f"10.0.0.{n}")
    assert len(await addresses.candidates()) == 3
    assert look_ups == 2


async def test_a_look_up_that_fails_after_everybody_has_left_is_not_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silence = asyncio.Event()

    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        await silence.wait()
        raise OSError("no name server answers")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    addresses = Addresses("backend.example", 80, ManualClock())
    waiting = asyncio.create_task(addresses.candidates())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    silence.set()
    for _ in range(3):
        await asyncio.sleep(0)
    del waiting, addresses
    gc.collect()
    assert caplog.records == []
