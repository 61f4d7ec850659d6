"""Ten thousand clients that say nothing: held, pinged, reached at once when there is something to say, sent away."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.support.crowd import Crowd
from tests.support.needs import missing
from tests.support.processes import Backend, Edge
from tests.support.proctree import resident_bytes
from tests.support.scrape import counted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

CLIENTS = 10_000
SPARE_FILES = 1_500
MOST_BYTES_EACH = 16 * 1024
"""What one may cost at most, generously: benchmarks/ measures it, under quieter circumstances."""


@pytest.fixture
def open_files() -> None:
    """May this process, and the edge it starts, have so many files open? The edge inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CLIENTS + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        missing(f"{CLIENTS} connections need {needed} open files, and the hard limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@pytest.mark.usefixtures("open_files")
async def test_10_000_idle_connections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Backend(tmp_path, "tests.scenarios.backends:plain") as backend:
        route = {"backend": backend.url, "timeouts": {"ping_s": 8.0, "pong_s": 60.0}}
        async with Edge(tmp_path, routes=[route], edge={"drain_window_s": 5.0}) as edge:
            crowd = Crowd(edge.port)
            try:
                await hold(edge, crowd, capsys)
            finally:
                crowd.abandon()


async def hold(edge: Edge, crowd: Crowd, capsys: pytest.CaptureFixture[str]) -> None:
    (worker,) = edge.worker_pids()
    await crowd.grow(200)  # what the first ones cost is not theirs alone
    before = resident_bytes(worker)
    await crowd.grow(CLIENTS - 200)
    each = (resident_bytes(worker) - before) / (CLIENTS - 200)
    with capsys.disabled():
        print(f"\n{CLIENTS} idle connections: {each:,.0f} bytes RSS each")
    assert each < MOST_BYTES_EACH
    assert await counted(edge, "connections") == await counted(edge, "sessions") == CLIENTS

    # Each is pinged, and who answers stays.
    await wait_until(lambda: crowd.all(lambda member: member.pings >= 1), "every client was pinged", 90)

    # A message there and back, and a ping of the client's own, from a few of them all over the crowd.
    sample = crowd.sample(97)
    for number, member in enumerate(sample):
        member.send(str(number))
        member.ping()
    await wait_until(lambda: all(member.messages and member.pongs for member in sample), "they are answered", 60)
    assert [member.messages for member in sample] == [[str(number).encode()] for number in range(len(sample))]
    assert crowd.all(lambda member: member.closed is None)

    # Sent away one after the other, each with a word.
    edge.sigterm()
    await wait_until(lambda: crowd.all(lambda member: member.closed is not None), "all are closed", 90)
    assert {member.closed for member in crowd.members} == {1012}
    assert await edge.exit_code(60) == 0
    assert "cutting off" not in edge.log()
