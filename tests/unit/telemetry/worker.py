"""A worker process for test_siblings: counts `argv[3]` events and serves its snapshot on its unix socket."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from edge.telemetry.metrics import Metrics
from edge.telemetry.siblings import serve_snapshots, socket_path


def main(run_dir: str, worker: str, events: str) -> None:
    metrics = Metrics(worker)
    metrics.route("*/", "abc").events_delivered.value += int(events)
    uvicorn.run(
        serve_snapshots(metrics), uds=str(socket_path(Path(run_dir), worker)), log_level="error", lifespan="off"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
