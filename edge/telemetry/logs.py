"""Logs: two formats on stderr, one mask for secrets, and other people's loggers brought into line.

Nothing is logged per connection or per event at level info. The mask is a last net: values of secrets do not reach
log calls in the first place, but a library's error text may quote a header or a URL.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from edge.config import Secret

MASK = "•••"
SHORTEST_MASKED = 4
"""Characters; masking shorter secrets would only make the log unreadable, and show what they are."""

_QUIET = {
    "uvicorn": logging.WARNING,
    "uvicorn.error": logging.ERROR,  # its warnings are one per malformed request: an outsider could fill the disk
    "uvicorn.access": logging.CRITICAL,
    "websockets": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "asyncio": logging.WARNING,
}
"""The least level these libraries log at, unless ours is debug."""
_MUTE = frozenset({"uvicorn.access"})
"""Not even then: the control API has lines of its own, and what clients ask for may hold tokens."""

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class _Masked(logging.Formatter):
    """A formatter whose whole output, tracebacks included, has the secrets masked."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process
        self._secrets: re.Pattern[str] | None = None

    def mask(self, secrets: Iterable[Secret]) -> None:
        """Mask these from now on: as they are, as ``repr`` writes them, and either as JSON writes it."""
        found = {secret.value for secret in secrets if len(secret.value) >= SHORTEST_MASKED}
        found |= {repr(value)[1:-1] for value in found}
        found |= {json.dumps(value, ensure_ascii=ascii)[1:-1] for value in found for ascii in (True, False)}
        # The longest first: one secret may be the beginning of another.
        ordered = sorted(found, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def format(self, record: logging.LogRecord) -> str:
        text = self.line(record)
        return self._secrets.sub(MASK, text) if self._secrets else text

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def trace(self, record: logging.LogRecord) -> str:
        """The exception's traceback, or nothing."""
        return self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


class _Text(_Masked):
    """``2026-11-23T15:00:00.123Z INFO    worker-0 holdfast.store: message key=value``"""

    def line(self, record: logging.LogRecord) -> str:
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        trace = self.trace(record)
        head = f"{_time(record)} {record.levelname:<7} {self.process} {record.name}: {record.getMessage()}{extras}"
        return f"{head}\n{trace}" if trace else head


class _Json(_Masked):
    """One object a line: at, level, process, pid, logger, message, then what `extra` gave, then `trace`."""

    def line(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "process": self.process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if trace := self.trace(record):
            entry["trace"] = trace
        return json.dumps(entry, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _PLAIN}


class Logs:
    """The log of one process. `start` puts it in place of whatever handlers there were."""

    def __init__(self, format: Literal["text", "json"], process: str, stream: TextIO | None = None) -> None:
        """`process` is what lines call this process: ``supervisor``, ``worker-0``."""
        self._formatter = _Json(process) if format == "json" else _Text(process)
        self._handler = logging.StreamHandler(stream or sys.stderr)
        self._handler.setFormatter(self._formatter)

    def start(self, level: str, secrets: Iterable[Secret]) -> None:
        """Take over the root logger. Call it again when level or secrets have changed."""
        self._formatter.mask(secrets)
        root = logging.getLogger()
        root.handlers[:] = [self._handler]
        root.setLevel(level.upper())
        for name, least in _QUIET.items():
            logger = logging.getLogger(name)
            logger.handlers[:] = []
            logger.propagate = True
            loud = level == "debug" and name not in _MUTE
            logger.setLevel(logging.NOTSET if loud else max(least, root.level))
        logging.captureWarnings(True)
