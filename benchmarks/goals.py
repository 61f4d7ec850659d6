"""The goals of the design (§7) that these benchmarks can judge, as data, and the judging. Pure.

A goal compares two medians of the same run (a ratio), or holds one median against a bound. What was not measured in
a run is reported as `not measured`, never as met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.stats import Key, Medians, ratio

HOLDFAST = "Holdfast"
NGINX = "nginx"
NCHAN = "Nchan"
PUSHPIN = "Pushpin"
SLIXMPP = "slixmpp"
SLIXMPP_TUNED = "slixmpp tuned"
PROSODY = "Prosody"
PROSODY_AWAY = "Prosody away"
"""Variant: contacts are not logged in."""
PROSODY_BARE = "Prosody bare"
"""Variant: nor is there TLS."""
PROSODY_OPEN = "Prosody, no TLS"
"""Variant: contacts are there, TLS is not."""
PROSODY_TUNED = "Prosody tuned"
"""Variant: its Lua collects garbage by generations."""
PROSODY_SCRAM = "Prosody SCRAM"
"""Variant: passwords are proved, not sent."""
EJABBERD = "ejabberd"
GRIP = "GRIP"
"""Variant of a measurement: the backend speaks WebSocket-over-HTTP, publications are GRIP items."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`metric` of `subject` (÷ that of `against`, when given) must be at most or at least `bound`."""

    title: str
    metric: str
    subject: Key
    sense: Literal["at most", "at least"]
    bound: float
    against: Key | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a goal came to. `measured` None: one of its sides is missing in this run."""

    goal: Goal
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        if self.goal.sense == "at most":
            return self.measured <= self.goal.bound
        return self.measured >= self.goal.bound

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def judge(goals: Sequence[Goal], table: Medians) -> list[Verdict]:
    """Every goal against the medians of one run, in order."""
    return [Verdict(goal, _measure(goal, table)) for goal in goals]


def _measure(goal: Goal, table: Medians) -> float | None:
    if goal.against is None:
        return table.get(goal.subject, {}).get(goal.metric)
    return ratio(table, goal.metric, goal.subject, goal.against)


def design_goals(
    inbound: Sequence[int], fanout: Sequence[int], idle: Sequence[int], sdk: Sequence[int], xmpp: Sequence[int]
) -> list[Goal]:
    """The goals for the sizes of one run (numbers of connections, subscribers or XMPP sessions per case)."""
    goals = [goal for size in inbound for goal in _inbound(size)]
    if len(inbound) > 1:
        few, many = min(inbound), max(inbound)
        goals.append(
            Goal(
                f"inbound: CPU per event at {many:,} connections ÷ that at {few:,}",
                "cpu_us",
                Key("inbound", HOLDFAST, many),
                "at most",
                1.5,
                Key("inbound", HOLDFAST, few),
            )
        )
    goals += [goal for size in fanout for goal in _fanout(size)]
    goals += [
        Goal(
            f"idle: RSS per connection at {size:,}, bytes",
            "rss_bytes",
            Key("idle", HOLDFAST, size),
            "at most",
            8 * 1024,
        )
        for size in idle
    ]
    goals += [
        Goal(
            f"SDK backend, {size:,} connections: events/s with batching ÷ without",
            "events_per_s",
            Key("sdk", HOLDFAST, size, "batch=64"),
            "at least",
            5,
            Key("sdk", HOLDFAST, size, "batch=1"),
        )
        for size in sdk
    ]
    goals += [goal for size in xmpp for goal in _xmpp(size)]
    return goals


def _inbound(size: int) -> list[Goal]:
    return [
        Goal(
            f"inbound, {size:,} connections: CPU per event ÷ nginx",
            "cpu_us",
            Key("inbound", HOLDFAST, size),
            "at most",
            1.6,
            Key("inbound", NGINX, size),
        ),
        Goal(
            f"inbound, {size:,} connections, GRIP: CPU per event ÷ nginx",
            "cpu_us",
            Key("inbound", HOLDFAST, size, GRIP),
            "at most",
            1.6,
            Key("inbound", NGINX, size, GRIP),
        ),
        Goal(
            f"inbound, {size:,} connections, GRIP: events/s ÷ Pushpin",
            "events_per_s",
            Key("inbound", HOLDFAST, size, GRIP),
            "at least",
            10,
            Key("inbound", PUSHPIN, size, GRIP),
        ),
    ]


def _fanout(size: int) -> list[Goal]:
    return [
        Goal(
            f"fan-out to {size:,}, one publication: CPU per delivery ÷ Nchan",
            "cpu_us",
            Key("fanout", HOLDFAST, size, "single"),
            "at most",
            1.15,
            Key("fanout", NCHAN, size, "single"),
        ),
        Goal(
            f"fan-out to {size:,}, bursts of 100: deliveries/s ÷ Nchan",
            "deliveries_per_s",
            Key("fanout", HOLDFAST, size, "burst"),
            "at least",
            3,
            Key("fanout", NCHAN, size, "burst"),
        ),
    ]


def _xmpp(size: int) -> list[Goal]:
    """Memory and CPU are judged with TLS and without: OpenSSL alone takes more than the rest. What contacts say when
    somebody logs in is not the login's cost."""
    memory, cpu = f"{size:,} XMPP sessions: RSS of each, bytes", f"{size:,} XMPP sessions: CPU µs to log one in"
    return [
        Goal(memory, "rss_bytes", Key("xmpp", HOLDFAST, size, PROSODY), "at most", 30 * 1024),
        Goal(f"{memory}, no TLS", "rss_bytes", Key("xmpp", HOLDFAST, size, PROSODY_BARE), "at most", 30 * 1024),
        Goal(cpu, "cpu_us", Key("xmpp", HOLDFAST, size, PROSODY_AWAY), "at most", 1_000),
        Goal(f"{cpu}, no TLS", "cpu_us", Key("xmpp", HOLDFAST, size, PROSODY_BARE), "at most", 1_000),
        *(
            goal
            for server in (PROSODY, PROSODY_TUNED, PROSODY_OPEN, EJABBERD)
            for goal in _killed(Key("xmpp-killed", HOLDFAST, size, server))
        ),
    ]


def _killed(key: Key) -> list[Goal]:
    """A session that is not resumed at all fails the round."""
    title = f"edge killed with {key.size:,} XMPP sessions at {key.variant}"
    return [
        Goal(f"{title}: time to log in ÷ to resume", "times_faster", key, "at least", 3),
        Goal(f"{title}: messages lost", "lost", key, "at most", 0),
    ]
