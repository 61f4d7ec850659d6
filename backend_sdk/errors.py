"""Every error the SDK raises on purpose, as one tree.

HoldfastError
├── ActionError          an order was given a bad argument, or too late (also a ValueError)
├── StateError           a state key or value that JSON cannot hold (also a TypeError)
├── Reject               raise it in an `open` handler to refuse the handshake
├── RequestError         a request that is no good edge's: `status` and a text that says which part
│   ├── BadSignature     401
│   └── BadField         400, names the field
└── ControlError         the control API refused or did not answer; `status`, `code`
    ├── BadCall          400, 405, 413, 422: the call is wrong
    ├── Unauthorized     401, 403: the token is
    ├── NotFound         404
    ├── SessionGone      410: the session has ended
    ├── NotConfirmed     504: the edge that holds the session did not say whether it did as told
    └── Unavailable      503, or no answer at all
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Headers = Sequence[tuple[str, str]] | Mapping[str, str]


class HoldfastError(Exception):
    """Root of all errors that the SDK raises on purpose."""


class ActionError(HoldfastError, ValueError):
    """An order's argument is wrong, or the order comes too late. `field` names the argument."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class StateError(HoldfastError, TypeError):
    """A key or value that session state and timer data cannot hold. `path` says where: ``rooms[2].name``."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class Reject(HoldfastError):
    """Raise it in an `open` handler: the handshake is refused with `status` (400–599), `text` and `headers`.

    Whatever the handler ordered before is dropped. Outside `open` it counts as a failed handler.
    """

    def __init__(self, status: int = 403, text: str = "", headers: Headers = ()) -> None:
        self.status = status
        self.text = text
        self.headers = headers
        super().__init__(f"{status} {text}".rstrip())


class RequestError(HoldfastError):
    """A request that does not come from an edge, or not from a good one. `text` is shown to whoever sent it."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class BadSignature(RequestError):
    """Missing, malformed, outside the replay window, or made with another secret."""

    def __init__(self, problem: str) -> None:
        super().__init__(401, f"Holdfast-Signature: {problem}")


class BadField(RequestError):
    """One field of the request is missing or of the wrong type; `field` names it: ``events[0].at``."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(400, f"{field}: {problem}")


class ControlError(HoldfastError):
    """The control API did not do as told. `status` is the HTTP status, 0 when there was no answer; `code` is the
    edge's word for the problem (``session_gone``), stable enough to be compared."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(f"{status} {code}: {message}" if status else f"{code}: {message}")


class BadCall(ControlError):
    """The edge does not accept this call; repeating it will not help."""


class Unauthorized(ControlError):
    """The token is missing, unknown or not good for this."""


class NotFound(ControlError):
    """There is no such thing."""


class SessionGone(ControlError):
    """The session has ended."""


class NotConfirmed(ControlError):
    """The edge that holds the session did not answer in time: the actions took effect, or did not."""


class Unavailable(ControlError):
    """The edge or its store cannot be reached now; try again later."""
