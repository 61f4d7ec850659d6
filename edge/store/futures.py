"""Joining futures without tasks."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any


def relay(inner: Future[Any], outer: Future[Any]) -> None:
    """End `outer` as `inner` ends."""

    def copy(done: Future[Any]) -> None:
        if outer.done():
            if not done.cancelled():
                done.exception()  # nobody is left to be told
        elif done.cancelled():
            outer.cancel()
        elif (error := done.exception()) is not None:
            outer.set_exception(error)
        else:
            outer.set_result(done.result())

    inner.add_done_callback(copy)


def then(first: Future[Any], issue: Callable[[Any], Future[Any]]) -> Future[Any]:
    """Call `issue(result)` once `first` has succeeded; the future of what it returns."""
    outer: Future[Any] = first.get_loop().create_future()

    def go(done: Future[Any]) -> None:
        if done.cancelled():
            outer.cancel()
        elif (error := done.exception()) is not None:
            if not outer.done():
                outer.set_exception(error)
        else:
            relay(issue(done.result()), outer)

    first.add_done_callback(go)
    return outer


def both(first: Future[Any], second: Future[Any]) -> Future[Any]:
    """Ends as `second` ends, but with the error of `first` if that failed. `first` ends earlier."""
    outer: Future[Any] = first.get_loop().create_future()

    def go(done: Future[Any]) -> None:
        # Both are asked, whatever the first one says: an error that nobody reads is logged as a bug.
        ended = [each for each in (first, done) if each.done() and not each.cancelled()]
        errors = [error for each in ended if (error := each.exception()) is not None]
        if outer.done():
            return
        if errors:
            outer.set_exception(errors[0])
        elif done.cancelled():
            outer.cancel()
        else:
            outer.set_result(done.result())

    second.add_done_callback(go)
    return outer
