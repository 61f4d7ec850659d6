"""The process in which `tests.support.processes.Backend` runs an ASGI app, killable and back within
milliseconds.

Usage: ``python -m tests.support.backend_host module:app port`` with orders on stdin, one per line, and one
line of answer each on stdout:

    start          started <pid>     a new process serves the app
    signal <n>     sent              that process gets signal n
    wait           ended <code>      it has ended (negative: by that signal)

The host imports the app once and forks for each start, so that a backend which is killed fifty times does not
import Python fifty times. It never runs the app itself: every start begins with the state that importing
made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any, cast

import uvicorn
from uvicorn.importer import import_from_string

from tests.support.ports import LOOPBACK
from tests.support.proctree import dying_with_parent


def main() -> None:
    target, port = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the app prints belongs in the log, not between our answers
    app = import_from_string(target)
    die_with_host = dying_with_parent(signal.SIGKILL)
    child = 0
    for order in sys.stdin:
        match order.split():
            case ["start"]:
                child = os.fork()
                if child == 0:
                    die_with_host()
                    answers.close()
                    _serve(app, port)
                print(f"started {child}", file=answers)
            case ["signal", number]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, int(number))
                print("sent", file=answers)
            case ["wait"]:
                _, status = os.waitpid(child, 0)
                child = 0
                print(f"ended {os.waitstatus_to_exitcode(status)}", file=answers)
    if child:
        os.kill(child, signal.SIGKILL)


def _serve(app: object, port: int) -> None:
    """Serve until a signal ends this process; never returns into the host's loop."""
    code = 1
    # Before uvicorn listens to signals, and again when it has finished what it had in hand and raises them anew.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # two backends may stand behind one URL
        listener.bind((LOOPBACK, port))
        listener.listen(1024)
        config = uvicorn.Config(cast(Any, app), log_level="warning", access_log=False, ws="none")
        uvicorn.Server(config).run(sockets=[listener])
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
