"""Workers ask each other over real unix sockets, between real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.telemetry.exposition import render
from edge.telemetry.metrics import Metrics
from edge.telemetry.siblings import Siblings, socket_path
from tests.support.waiting import wait_until
from tests.unit.telemetry.test_metrics import samples_of, total

EVENTS = "holdfast_events_delivered_total"


@pytest.fixture
async def sibling(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Worker 1, a process of its own, which has delivered 40 events."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.telemetry.worker", str(tmp_path), "1", "40"
    )
    try:
        await wait_until(lambda: _listening(socket_path(tmp_path, "1")), "the sibling listens")
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


async def _listening(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _worker_0(tmp_path: Path, *others: str) -> Siblings:
    metrics = Metrics("0")
    metrics.route("*/", "abc").events_delivered.value += 2
    return Siblings(metrics, tmp_path, ["0", *others])


async def test_a_worker_shows_its_siblings_numbers_beside_its_own(
    tmp_path: Path, sibling: asyncio.subprocess.Process
) -> None:
    samples = samples_of(render(await _worker_0(tmp_path, "1").gather(deadline_s=10))[0])
    assert total(samples, EVENTS) == 42
    assert total(samples, EVENTS, worker="1") == 40
    assert total(samples, "holdfast_resident_memory_bytes", worker="1") > 1_000_000
    assert total(samples, "holdfast_workers_missing") == 0


async def test_a_sibling_that_hangs_is_said_and_does_not_hold_up_the_answer(
    tmp_path: Path, sibling: asyncio.subprocess.Process
) -> None:
    os.kill(sibling.pid, signal.SIGSTOP)
    started = time.monotonic()
    samples = samples_of(render(await _worker_0(tmp_path, "1").gather(deadline_s=0.2))[0])
    assert time.monotonic() - started < 5
    assert total(samples, EVENTS) == 2
    assert total(samples, "holdfast_workers_missing") == 1


async def test_siblings_that_are_not_there_or_died_are_said(
    tmp_path: Path, sibling: asyncio.subprocess.Process
) -> None:
    sibling.kill()
    await sibling.wait()
    gathered = await _worker_0(tmp_path, "1", "2").gather()
    assert gathered["missing"] == ["1", "2"]
    assert list(gathered["workers"]) == ["0"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnot json",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{"workers":{},"missing": []} ',
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_no_snapshot_counts_as_none(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, socket_path(tmp_path, "1")):
        gathered = await _worker_0(tmp_path, "1").gather(deadline_s=5)
    assert gathered["missing"] == ["1"]


async def test_a_stale_socket_file_counts_as_no_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path(tmp_path, "1")))
    gathered = await _worker_0(tmp_path, "1").gather()
    assert gathered["missing"] == ["1"]
