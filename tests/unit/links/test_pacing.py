"""Who waits for a turn gets it in order, at the rate, and not while the server is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from edge.clock import ManualClock, SystemClock
from edge.config import XmppSettings
from edge.errors import DialError
from edge.links import pacing
from edge.links.pacing import Pace, Pacer
from edge.model.pacing import FAILURES_TO_OPEN, PROBE_MS, Phase
from edge.wheel import Alarm, Wheel

DOMAIN = "chat.example"
STEP_MS = 20


class CountingWheel(Wheel):
    set = 0

    def at(self, due_ms: int, callback: Callable[[], None]) -> Alarm:
        self.set += 1
        return super().at(due_ms, callback)


class Bench:
    """A pacer, a clock that is moved by hand, and who was let in when."""

    def __init__(self, random: Callable[[], float] = lambda: 0.5) -> None:
        self.clock = ManualClock(monotonic_ms=1_000_000)
        self.wheel = CountingWheel(self.clock, STEP_MS)
        self.pacer = Pacer(self.clock, self.wheel, random)
        self.in_order: list[int] = []
        self.times: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, count: int = 1, rate: float = 100, domain: str = DOMAIN) -> None:
        server = XmppSettings(domain, logins_per_s=rate)
        self.tasks += [asyncio.create_task(self._wait(server, len(self.tasks) + n)) for n in range(count)]
        await self.settle()

    async def _wait(self, server: XmppSettings, number: int) -> None:
        await self.pacer.admitted(server)
        self.in_order.append(number)
        self.times.append(self.clock.monotonic_ms() - 1_000_000)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def pass_ms(self, ms: int) -> None:
        for _ in range(ms // STEP_MS):
            self.clock.advance(STEP_MS)
            self.wheel.advance()
            await self.settle()

    def fail(self, reason: str = "connection refused") -> None:
        for _ in range(FAILURES_TO_OPEN):
            self.pacer.unreachable(DOMAIN, reason)

    @property
    def state(self) -> Pace:
        return self.pacer.state(DOMAIN)


async def test_first_come_first_served_at_the_rate() -> None:
    bench = Bench(Random(7).random)
    await bench.ask(500, rate=100)
    assert len(bench.in_order) < 10
    await bench.pass_ms(4_000)
    assert 360 < len(bench.in_order) < 440
    await bench.pass_ms(2_000)
    assert bench.in_order == list(range(500))
    assert bench.state == Pace(0, Phase.CLOSED, "")


async def test_a_turn_is_free_when_nobody_waits() -> None:
    bench = Bench()
    await bench.ask()
    await bench.pass_ms(1_000)
    await bench.ask()
    assert bench.times == [0, 1_000]


async def test_servers_do_not_wait_for_each_other() -> None:
    bench = Bench()
    await bench.ask(100, rate=1)
    await bench.ask(1, domain="other.example")
    assert 100 in bench.in_order
    for task in bench.tasks:
        task.cancel()


async def test_without_a_limit_all_go_at_once() -> None:
    bench = Bench()
    await bench.ask(1_000, rate=0)
    assert bench.in_order == list(range(1_000))


async def test_ten_thousand_wait_with_one_alarm_between_them() -> None:
    bench = Bench()
    await bench.ask(10_000, rate=1_000)
    assert bench.wheel.set == 1
    await bench.pass_ms(11_000)
    assert bench.in_order == list(range(10_000))
    assert bench.wheel.set < 700


async def test_whoever_is_cancelled_leaves_the_queue_and_takes_no_turn() -> None:
    bench = Bench()
    await bench.ask(10, rate=10)
    entered = len(bench.in_order)
    for task in bench.tasks[entered:9]:
        task.cancel()
    await bench.settle()
    assert bench.state.waiting == 1
    await bench.pass_ms(200)
    assert bench.in_order[-1] == 9
    assert len(bench.in_order) == entered + 1


async def test_a_server_that_is_away_is_probed_by_one() -> None:
    bench = Bench()
    bench.fail()
    assert bench.state == Pace(0, Phase.OPEN, "connection refused")
    await bench.ask(50, rate=0)
    await bench.pass_ms(480)
    assert bench.in_order == []
    await bench.pass_ms(40)
    assert bench.in_order == [0]
    assert bench.state == Pace(49, Phase.PROBING, "connection refused")
    bench.pacer.unreachable(DOMAIN, "no answer")
    await bench.pass_ms(1_000)
    assert bench.in_order == [0]
    await bench.pass_ms(40)
    assert bench.in_order == [0, 1]
    bench.pacer.reached(DOMAIN)
    await bench.settle()
    assert bench.in_order == list(range(50))
    assert bench.state == Pace(0, Phase.CLOSED, "")


async def test_a_probe_that_was_cancelled_makes_room_for_the_next() -> None:
    bench = Bench()
    bench.fail()
    await bench.ask(2)
    bench.clock.advance(520)
    bench.wheel.advance()  # the first has its turn, and has not run yet
    bench.tasks[0].cancel()
    await bench.settle()
    assert bench.in_order == [1]
    assert bench.state.phase is Phase.PROBING


async def test_a_probe_that_is_never_heard_of_again_is_replaced() -> None:
    bench = Bench()
    bench.fail()
    await bench.ask(2)
    await bench.pass_ms(520)
    assert bench.in_order == [0]
    await bench.pass_ms(PROBE_MS - 40)
    assert bench.in_order == [0]
    await bench.pass_ms(80)
    assert bench.in_order == [0, 1]


async def test_cancelled_while_others_probe() -> None:
    bench = Bench()
    bench.fail()
    await bench.ask(3)
    await bench.pass_ms(520)
    bench.tasks[1].cancel()
    await bench.settle()
    assert bench.in_order == [0]
    assert bench.state.phase is Phase.PROBING
    bench.pacer.reached(DOMAIN)
    await bench.pass_ms(40)
    assert bench.in_order == [0, 2]


async def test_a_permanent_failure_holds_all_up_at_once() -> None:
    bench = Bench()
    bench.pacer.unreachable(DOMAIN, "certificate: expired", permanent=True)
    await bench.ask()
    await bench.pass_ms(29_900)
    assert bench.in_order == []
    await bench.pass_ms(200)
    assert bench.in_order == [0]


async def test_more_than_can_be_meant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MOST_WAITING", 3)
    bench = Bench()
    bench.fail()
    await bench.ask(4)
    with pytest.raises(DialError, match=r"3 logins wait for their turn at chat\.example already"):
        await bench.tasks[3]
    for task in bench.tasks[:3]:
        task.cancel()


async def test_on_a_loop_of_its_own() -> None:
    clock = SystemClock()
    wheel = Wheel(clock)
    wheel.start(asyncio.get_running_loop())
    pacer = Pacer(clock, wheel)
    server = XmppSettings(DOMAIN, logins_per_s=1_000)
    began = clock.monotonic_ms()
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(pacer.admitted(server))
    assert clock.monotonic_ms() - began > 80
    wheel.stop()
