"""Which function handles which event, and on which thread. Registration only; `backend_sdk.app` calls them."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function. `threaded`: it is a plain function that runs in a worker thread."""

    function: Function
    threaded: bool


class Handlers:
    """Handlers by event type (and the name of a timer or question), and the worker threads for those that need one.

    `threads` is the most worker threads, 0: plain functions run on the event loop.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._by_type: dict[str, Handler] = {}
        self._by_name: dict[tuple[str, str], Handler] = {}

    def register(self, type: str, function: Function, *, inline: bool | None, name: str | None = None) -> None:
        """Raises ValueError when there is one already, TypeError for what cannot be called."""
        old = self._by_type.get(type) if name is None else self._by_name.get((type, name))
        if old is not None:
            raise ValueError(f"there is a handler for {type} {name or ''} already: {old.function!r}")
        handler = self.wrap(function, inline)
        if name is None:
            self._by_type[type] = handler
        else:
            self._by_name[type, name] = handler

    def wrap(self, function: Function, inline: bool | None = None) -> Handler:
        """`function` and where it runs. `inline` None: where the app's plain functions run."""
        if not callable(function):
            raise TypeError(f"a handler must be a function, not {function!r}")
        return Handler(function, not _is_async(function) and not (self._threads == 0 if inline is None else inline))

    def find(self, type: str) -> Handler | None:
        """The handler for events of `type`."""
        return self._by_type.get(type)

    def find_named(self, type: str, name: str | None) -> Handler | None:
        """The handler for events of `type` with that name, or the one for all others of the type."""
        named = None if name is None else self._by_name.get((type, name))
        return named or self._by_type.get(type)

    async def in_thread(self, function: Function, *arguments: Any) -> Any:
        """Run a plain function in a worker thread, in a copy of this context."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads or 40, thread_name_prefix="holdfast-handler")
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(function, *arguments))

    async def call(self, handler: Handler, *arguments: Any) -> None:
        """Run a handler to its end, wherever it belongs."""
        if handler.threaded:
            answer = await self.in_thread(handler.function, *arguments)
        else:
            answer = handler.function(*arguments)
        if isinstance(answer, Awaitable):
            await answer

    def close(self) -> None:
        """Let the worker threads go; they are made again when needed."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object whose __call__ is async)
    )
