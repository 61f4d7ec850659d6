"""The memory of answers: bounded, oldest out first, and nothing handled twice at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sdk.repeats import Repeats
from backend_sdk.wire import JsonEncoding

JSON = JsonEncoding()
OVERHEAD = 250

ids = st.integers(0, 9).map(lambda number: f"s:{number}")


@given(
    most=st.integers(0, 6),
    room=st.integers(0, 2_500),
    steps=st.lists(st.tuples(st.booleans(), ids, st.binary(max_size=400)), max_size=60),
)
def test_memory_is_bounded_and_forgets_the_least_recently_used(
    most: int, room: int, steps: list[tuple[bool, str, bytes]]
) -> None:
    """Against a plain model: an ordered dict that is trimmed from the front."""
    repeats, model = Repeats(most, room), OrderedDict[str, bytes]()
    for keep, id, packed in steps:
        if keep:
            repeats.keep(id, JSON, packed)
            if most and len(packed) + len(id) + OVERHEAD <= room:
                model.pop(id, None)
                model[id] = packed
                while len(model) > most or sum(len(a) + len(i) + OVERHEAD for i, a in model.items()) > room:
                    model.popitem(last=False)
        else:
            found = repeats.find(id)
            assert (found and found[1]) == model.get(id)
            if id in model:
                model.move_to_end(id)
        assert len(repeats) == len(model) <= most
        assert repeats.bytes == sum(len(a) + len(i) + OVERHEAD for i, a in model.items()) <= room


@settings(max_examples=60)
@given(
    failures=st.lists(st.booleans(), min_size=0, max_size=4),
    callers=st.integers(1, 6),
    pauses=st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_many_callers_one_runs_at_a_time_until_one_succeeds(
    failures: list[bool], callers: int, pauses: list[int]
) -> None:
    """The loop of `App._handle` in small: whoever has the claim runs; once there is an answer nobody does."""
    repeats = Repeats(10, 10_000)
    running, runs = 0, 0
    fails = iter([*failures, *[False] * 100])

    async def caller(pause: int) -> bytes | None:
        nonlocal running, runs
        for _ in range(pause):
            await asyncio.sleep(0)
        while True:
            known = repeats.find("e")
            if known is not None:
                return known[1]
            if repeats.claim("e"):
                break
            await repeats.released("e")
        running += 1
        assert running == 1
        runs += 1
        await asyncio.sleep(0)
        running -= 1
        failed = next(fails)
        if not failed:
            repeats.keep("e", JSON, b"%d" % runs)
        repeats.release("e")
        return None if failed else b"%d" % runs

    async def everybody() -> list[bytes | None]:
        return await asyncio.wait_for(asyncio.gather(*(caller(pause) for pause in pauses[:callers])), 20)

    answers = asyncio.run(everybody())
    succeeded = [answer for answer in answers if answer is not None]
    assert len(set(succeeded)) <= 1
    failed_first = next((index for index, failed in enumerate([*failures, False]) if not failed), 0)
    assert runs == min(callers, failed_first + 1)
