"""Every error the edge raises on purpose, as one tree.

    HoldfastError
    ├── ConfigError            a setting is wrong: file, key, value, and what is allowed
    ├── ConfigErrors           all the wrong settings of one attempt to load them
    ├── StartError             the process cannot start: a port is taken, a folder cannot be written
    ├── StoreError
    │   ├── StoreUnavailable   Redis is away and the bounded wait for it is over
    │   ├── FenceRefused       another edge owns the session now; this one must let go of it
    │   ├── OutOfStep          what we think is stored of a link is not; nothing was changed; read it again
    │   ├── QueueFull          no room for more events or stanzas of a link; nothing was changed
    │   ├── CountTooHigh       an XMPP server acknowledged more stanzas than were sent
    │   └── StoreRefused       Redis answered with an error we did not expect (says which)
    ├── WireError              bytes from outside that do not parse (says where)
    │   └── FieldError         one field of an action is missing, unknown or of the wrong type
    ├── SessionGone            the session an action was meant for has ended
    ├── NotConfirmed           an order was passed on, and nobody said in time that it was carried out
    ├── NotFound               the thing an operator named does not exist
    ├── NotAllowed             what an operator asked for is forbidden by configuration (says by which setting)
    ├── Conflict               what an operator asked for does not fit the present state (says what to do first)
    ├── BackendError           a call that failed before any answer (see edge.backend)
    ├── DialError              no connection to an XMPP server (says why, and whether trying again may help)
    └── VaultError             sealed credentials do not open, or there is no key to seal with (says what to do)

Library errors are translated once, at the border where the library is called; nothing above that border
knows redis-py, httptools or websockets exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence


class HoldfastError(Exception):
    """Root of all errors that Holdfast raises on purpose."""


class ConfigError(HoldfastError):
    """A setting is wrong.

    `source` is the file, flag or environment variable it came from; `key` is dotted
    (``route[0].limits.message_bytes``); `allowed` says what would be accepted. `value` is never shown for secret
    settings. `problem` is for trouble that is not about the value (a setting that is missing or not known): it stands
    in the place of "= value is not accepted".
    """

    def __init__(self, source: str, key: str, value: object, allowed: str, *, problem: str = "") -> None:
        self.source = source
        self.key = key
        self.value = value
        self.allowed = allowed
        trouble = problem or f"= {value!r} is not accepted"
        super().__init__(f"{source}: {key} {trouble}: {allowed}")


class ConfigErrors(HoldfastError):
    """Everything that is wrong with the settings, one `ConfigError` each, in the order of the sources."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class StartError(HoldfastError):
    """The settings are right, but the machine does not let the process start; says what is in the way."""


class StoreError(HoldfastError):
    """Something about Redis."""


class StoreUnavailable(StoreError):
    """Redis is away, and the bounded queue or the deadline for it is used up."""


class FenceRefused(StoreError):
    """The session has a newer owner than us; our write was refused and nothing was changed."""


class OutOfStep(StoreError):
    """A command does not follow on what is stored; nothing was changed, and the caller must read the state again."""


class QueueFull(StoreError):
    """A link's queue has no room for this; nothing was changed, and the caller must hold back."""


class CountTooHigh(StoreError):
    """An XMPP server acknowledged more stanzas than were sent to it; its stream cannot go on."""


class StoreRefused(StoreError):
    """Redis answered with an error that is none of the above."""


class WireError(HoldfastError):
    """Bytes from outside that do not parse."""


class FieldError(WireError):
    """One field of one action or result is missing, unknown or of the wrong type.

    `field` names it as the sender would look for it, e.g. ``actions[1].channel``.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class SessionGone(HoldfastError):
    """The session has ended, or never was."""


class NotConfirmed(HoldfastError):
    """An order was passed to another edge, and no answer came in time: it may or may not have been carried out."""


class NotFound(HoldfastError):
    """The thing an operator named does not exist."""


class NotAllowed(HoldfastError):
    """What an operator asked for is forbidden by configuration; the message names the setting."""


class Conflict(HoldfastError):
    """What an operator asked for does not fit the present state; the message says what to do first."""


class Unhealthy(HoldfastError):
    """A release does not pass its health check; the message says what was wrong with it."""


class BackendError(HoldfastError):
    """A call to a backend failed before a whole answer came."""


class DialError(HoldfastError):
    """There is no connection to an XMPP server; the message is for people.

    `permanent`: trying again soon will not help (a certificate that does not hold, a domain that offers no service).
    """

    def __init__(self, problem: str, *, permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(problem)


class VaultError(HoldfastError):
    """Sealed credentials cannot be opened, or made; the message says what to do, and shows no secret."""
