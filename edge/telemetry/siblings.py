"""The numbers of the other workers on this machine, over their unix sockets.

All workers listen on the control port with SO_REUSEPORT, so the kernel picks the one that gets a scrape. That one
asks its siblings. Each worker serves its own snapshot on ``<run dir>/worker-<i>.sock``: `serve_snapshots` is that
server's ASGI app, and only the user the edge runs as can connect (the run directory is private).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from edge.telemetry.exposition import Snapshot, merge
from edge.telemetry.metrics import Metrics

DEADLINE_S = 1.0
"""For each sibling; they are asked at the same time. Scrapers give up after 10 s by default."""


def socket_path(run_dir: Path, worker: str) -> Path:
    """Where worker number `worker` serves its snapshot."""
    return run_dir / f"worker-{worker}.sock"


def serve_snapshots(metrics: Metrics) -> Starlette:
    """The ASGI app behind a worker's unix socket: ``GET /snapshot``."""

    async def snapshot(_: Request) -> JSONResponse:
        return JSONResponse(metrics.snapshot())

    return Starlette(routes=[Route("/snapshot", snapshot)])


class Siblings:
    """Gathers the snapshots of all workers of one edge.

    `workers` are the numbers of all of them, this process's (`metrics.worker`) included.
    """

    __slots__ = ("_metrics", "_others", "_run_dir")

    def __init__(self, metrics: Metrics, run_dir: Path, workers: Sequence[str]) -> None:
        self._metrics = metrics
        self._run_dir = run_dir
        self._others = [worker for worker in workers if worker != metrics.worker]

    async def gather(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """This worker's snapshot and its siblings'; those that did not answer within `deadline_s` are in `missing`."""
        return merge(
            [self._metrics.snapshot(), *await asyncio.gather(*(self._ask(w, deadline_s) for w in self._others))]
        )

    async def _ask(self, worker: str, deadline_s: float) -> Snapshot:
        transport = httpx.AsyncHTTPTransport(uds=str(socket_path(self._run_dir, worker)))
        try:
            # httpx's timeouts are per read; a whole answer needs one deadline.
            async with asyncio.timeout(deadline_s), httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113
                answer = await client.get("http://worker/snapshot")
                answer.raise_for_status()
                snapshot = answer.json()
        except (TimeoutError, httpx.HTTPError, json.JSONDecodeError):
            return {"workers": {}, "missing": [worker]}
        return snapshot if _is_snapshot(snapshot, worker) else {"workers": {}, "missing": [worker]}


def _is_snapshot(answer: Any, worker: str) -> bool:
    """Is this what worker number `worker` answers? Another program's socket may lie there after a crash."""
    return isinstance(answer, dict) and isinstance(answer.get("workers"), dict) and worker in answer["workers"]
