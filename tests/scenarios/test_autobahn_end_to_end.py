"""Autobahn's fuzzing client against a whole edge: every frame travels through a real backend and back.

tests/autobahn runs all cases against the transport alone; here a part of them shows that nothing between the client
and its backend spoils what the transport gets right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.autobahn.echo import LARGEST
from tests.autobahn.suite import COMPRESSION_SHORT, PROTOCOL, NoPython27, failed, furnish, run_suite, show
from tests.support.needs import missing
from tests.support.processes import Backend, Edge

pytestmark = [pytest.mark.scenario, pytest.mark.autobahn]

SHORT = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.1", "13.1.1")
"""Framing, pings, fragments, UTF-8, closing; and a taste of compression."""


@pytest.fixture(scope="module")
def suite() -> None:
    try:
        furnish()
    except NoPython27 as absent:
        missing(f"AUTOBAHN NOT RUN: {absent}")


async def check(
    folder: Path, cases: Sequence[str], least: int, timeout_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"message_bytes": LARGEST, "frame_bytes": LARGEST, "outbox_bytes": 2 * LARGEST, "queue_bytes": LARGEST}
    async with Backend(folder, "tests.scenarios.backends:plain") as backend:
        route = {"backend": backend.url, "limits": sizes, "compression": True}
        async with Edge(folder, routes=[route]) as edge:
            results = run_suite(edge.url(), cases, timeout_s=timeout_s)
    with capsys.disabled():
        print("\n" + show(results))
    assert failed(results) == []
    assert len(results) >= least, "cases were left out"


@pytest.mark.usefixtures("suite")
async def test_the_protocol_through_a_backend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await check(tmp_path, SHORT, 245, 240, capsys)


@pytest.mark.long
@pytest.mark.usefixtures("suite")
async def test_every_case_of_the_protocol_through_a_backend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await check(tmp_path, (*PROTOCOL, *COMPRESSION_SHORT), 300, 2_000, capsys)
