"""Autobahn's fuzzing client against the transport: no case may fail. What is not plainly OK is listed in the output.

``AUTOBAHN_URL`` tests another echo than the transport's own, an edge with a backend for example.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.autobahn.suite import (
    COMPRESSION_LONG,
    COMPRESSION_SHORT,
    PROTOCOL,
    CaseResult,
    NoPython27,
    failed,
    furnish,
    run_suite,
    show,
)

pytestmark = pytest.mark.autobahn


@contextlib.contextmanager
def echo_server() -> Iterator[str]:
    """The URL of an echo: the one that was asked for, or the transport's own in a process of its own."""
    if url := os.environ.get("AUTOBAHN_URL"):
        yield url
        return
    command = [sys.executable, "-m", "tests.autobahn.echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # it ends with its input
            process.wait(timeout=20)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def suite() -> None:
    try:
        furnish()
    except NoPython27 as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(f"AUTOBAHN NOT RUN: {missing}")


def run_both(first: Sequence[str], second: Sequence[str], timeout_s: float) -> list[CaseResult]:
    """Two halves at once, each client with an echo of its own."""

    def half(cases: Sequence[str]) -> list[CaseResult]:
        with echo_server() as url:
            return run_suite(url, cases, timeout_s=timeout_s)

    with ThreadPoolExecutor(2) as pool:
        return [result for results in pool.map(half, (first, second)) for result in results]


def judge(results: Sequence[CaseResult], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + show(results))
    assert failed(results) == []
    # The library's own ServerProtocol fails the first and is not strict in the second.
    named = {result.case: result for result in results}
    for case in ("7.1.5", "5.15"):
        assert case not in named or named[case].plain, named[case]


@pytest.mark.usefixtures("suite")
def test_every_case_of_the_protocol_and_each_kind_of_compression(capsys: pytest.CaptureFixture[str]) -> None:
    results = run_both(PROTOCOL, COMPRESSION_SHORT, timeout_s=230)
    assert len(results) >= 300, "cases were left out"
    judge(results, capsys)


@pytest.mark.long
@pytest.mark.usefixtures("suite")
def test_every_case_of_compression(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = COMPRESSION_LONG
    results = run_both([first], [second], timeout_s=3_000)
    assert len(results) == 90 + 126, "cases were left out"
    judge(results, capsys)
