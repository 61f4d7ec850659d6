"""What a silent client means: when to ping it, when to give it up, when to end it as idle.

Times are whole monotonic seconds as the transport notes them: up to one second old when they are noted. Everything
here waits that second longer, so that nobody is ended early.
"""

from __future__ import annotations

import enum

from edge.config import TimeoutSettings

LOOK_AGAIN_S = 60
"""How often to look where nothing is due: a reload may have turned something on."""


class Step(enum.Enum):
    NONE = "nothing is due"
    PING = "ping it"
    IDLE = "end it: no message either way for too long"
    DEAD = "drop it: no sign of life after a ping"


def judge(now: int, heard: int, message: int, pinged: int, paused: bool, timeouts: TimeoutSettings) -> tuple[Step, int]:
    """What to do at `now`, and when to look next.

    `heard`: when anything came from the client; `message`: when a message went either way; `pinged`: when it was
    pinged, 0 for not since it was heard; `paused`: we do not read from it, so that its silence says nothing.
    """
    idle_at = message + seconds(timeouts.idle_s) if timeouts.idle_s > 0 else 0
    if idle_at and now > idle_at:
        return Step.IDLE, 0
    step, look_at = Step.NONE, now + LOOK_AGAIN_S
    if paused:
        look_at = now + 1 + (seconds(timeouts.ping_s) or LOOK_AGAIN_S)
    elif pinged and heard < pinged:
        if now > pinged + timeouts.pong_s:
            return Step.DEAD, 0
        look_at = pinged + 1 + seconds(timeouts.pong_s)
    elif timeouts.ping_s > 0:
        look_at = heard + 1 + seconds(timeouts.ping_s)
        if now >= look_at:
            step, look_at = Step.PING, now + 1 + seconds(timeouts.pong_s)
    return step, min(look_at, idle_at + 1) if idle_at else look_at


def first_look(timeouts: TimeoutSettings) -> int:
    """In how many seconds a client that was just heard has to be looked at."""
    waits = [seconds(wait) for wait in (timeouts.ping_s, timeouts.idle_s) if wait > 0]
    return min(waits, default=LOOK_AGAIN_S)


def seconds(setting: float) -> int:
    """Whole seconds, rounded up."""
    return -int(-setting // 1)
