"""Log lines, and that no secret is in them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import pytest

from edge.config import Secret
from edge.telemetry.logs import Logs

LOGGERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "websockets", "httpx", "httpcore", "asyncio")


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    before = [
        (logger, logger.level, logger.handlers[:], logger.propagate) for logger in map(logging.getLogger, LOGGERS)
    ]
    yield
    logging.captureWarnings(False)
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def start(format: Literal["text", "json"], *secrets: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    Logs(format, "worker-0", stream).start(level, [Secret(secret) for secret in secrets])
    return stream


def test_text() -> None:
    stream = start("text")
    logging.getLogger("holdfast.x").info("%d sessions", 3, extra={"edge": "e1"})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    worker-0 holdfast\.x: 3 sessions edge=e1\n", stream.getvalue()
    )


def test_json() -> None:
    stream = start("json")
    try:
        int("a\nb")
    except ValueError:
        logging.getLogger("holdfast.x").exception("broken", extra={"edge": "e1", "object": object})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("trace").endswith(r"ValueError: invalid literal for int() with base 10: 'a\nb'")
    assert {key: entry[key] for key in ("level", "process", "logger", "message", "edge", "object")} == {
        "level": "error",
        "process": "worker-0",
        "logger": "holdfast.x",
        "message": "broken",
        "edge": "e1",
        "object": "<class 'object'>",
    }


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("secret", ["hush-hush", 'with "quotes" and \\', "ümläut-π", "a+b.c*d"])
def test_secrets_are_masked_everywhere(format: Literal["text", "json"], secret: str) -> None:
    stream = start(format, secret, secret + "-longer")
    log = logging.getLogger("holdfast.x")
    log.info("in the message %s", secret, extra={"key": secret})
    try:
        dict[str, int]()[secret + "-longer"]
    except KeyError:
        log.exception("in the trace")
    text = stream.getvalue()
    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text
    assert "-longer" not in text.replace('secret + "-longer"', "").replace('secret + \\"-longer\\"', "")
    assert "in the message •••" in text


def test_new_secrets_and_levels_take_effect() -> None:
    stream = io.StringIO()
    logs = Logs("text", "worker-0", stream)
    logs.start("error", [])
    logging.getLogger("holdfast.x").info("hush-hush")
    logs.start("info", [Secret("hush-hush")])
    logging.getLogger("holdfast.x").info("hush-hush")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("•••\n")


def test_libraries_are_quiet_unless_debugging() -> None:
    stream = start("text")
    for name, level in [
        ("uvicorn.error", logging.WARNING),
        ("uvicorn.access", logging.INFO),
        ("websockets.server", 20),
    ]:
        logging.getLogger(name).log(level, "noise")
    logging.getLogger("httpx").info("noise")
    assert stream.getvalue() == ""
    logging.getLogger("uvicorn.error").error("heard")
    assert stream.getvalue().count("heard") == 1
    stream = start("text", level="debug")
    logging.getLogger("uvicorn.error").debug("noise")
    assert stream.getvalue().count("noise") == 1


def test_warnings_of_python_reach_the_log(recwarn: pytest.WarningsRecorder) -> None:
    stream = start("text")
    logging.getLogger("py.warnings").warning("old")
    assert "WARNING worker-0 py.warnings: old" in stream.getvalue()
