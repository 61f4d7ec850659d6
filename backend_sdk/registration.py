"""Decorators for handlers that `App` has one of for each event of links: what ``@app.on_xmpp_message`` is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar, overload

from backend_sdk.handlers import Handlers

F = TypeVar("F", bound=Callable[..., Any])


class Registrar(Protocol):
    """Who has handlers to register with."""

    handlers: Handlers


class Decorator:
    """``@app.on_xmpp_message``, or ``@app.on_xmpp_message(inline=True)``."""

    def __init__(self, handlers: Handlers, type: str) -> None:
        self._handlers = handlers
        self._type = type

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(self, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def __call__(self, function: F | None = None, /, *, inline: bool | None = None) -> Any:
        """Handle the events. Raises ValueError when there is a handler already."""
        register = _register(self._handlers, self._type, None, inline)
        return register if function is None else register(function)


class NamedDecorator:
    """``@app.on_xmpp_iq_result("vcard")`` for those of that name, ``@app.on_xmpp_iq_result`` for all others."""

    def __init__(self, handlers: Handlers, type: str) -> None:
        self._handlers = handlers
        self._type = type

    @overload
    def __call__(self, name: F, /) -> F: ...
    @overload
    def __call__(self, name: str | None = None, /, *, inline: bool | None = None) -> Callable[[F], F]: ...
    def __call__(self, name: F | str | None = None, /, *, inline: bool | None = None) -> Any:
        """Handle the events. Raises ValueError when there is a handler already."""
        if callable(name):
            return _register(self._handlers, self._type, None, inline)(name)
        return _register(self._handlers, self._type, name, inline)


class On:
    """An attribute of `App`: the decorator for events of `type`."""

    def __init__(self, type: str, doc: str) -> None:
        self._type = type
        self.__doc__ = doc

    @overload
    def __get__(self, app: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, app: Registrar, owner: type[Any]) -> Decorator: ...
    def __get__(self, app: Registrar | None, owner: type[Any]) -> Self | Decorator:
        return self if app is None else Decorator(app.handlers, self._type)


class OnNamed:
    """An attribute of `App`: the decorator for events of `type`, of which some have names."""

    def __init__(self, type: str, doc: str) -> None:
        self._type = type
        self.__doc__ = doc

    @overload
    def __get__(self, app: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, app: Registrar, owner: type[Any]) -> NamedDecorator: ...
    def __get__(self, app: Registrar | None, owner: type[Any]) -> Self | NamedDecorator:
        return self if app is None else NamedDecorator(app.handlers, self._type)


def _register(handlers: Handlers, type: str, name: str | None, inline: bool | None) -> Callable[[F], F]:
    def register(function: F) -> F:
        handlers.register(type, function, inline=inline, name=name)
        return function

    return register
