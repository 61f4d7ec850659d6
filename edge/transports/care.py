"""Looks after connections that say nothing: pings, idle ends, deadlines of closing ones.

Each connection stands in the bucket of one second, and is looked at when that second comes. It is not moved when a
message arrives (that would cost on every message); it is asked then what it wants next. One alarm of the wheel serves
them all.
"""

from __future__ import annotations

from typing import Protocol

from edge.clock import Clock
from edge.wheel import Alarm, Wheel


class Patient(Protocol):
    """What `Care` looks after."""

    due: int
    """The second of the bucket it stands in; 0: in none. Only `Care` writes it."""

    def look(self, now: int) -> int:
        """Its second has come: do what is due; the next second to be looked at, 0 for never."""
        ...


class Care:
    """Buckets of one second. Never early; late by up to two seconds, since times are noted in whole seconds too."""

    __slots__ = ("_alarm", "_buckets", "_clock", "_wheel", "now")

    def __init__(self, wheel: Wheel, clock: Clock) -> None:
        self._wheel = wheel
        self._clock = clock
        self._alarm: Alarm | None = None
        self._buckets: dict[int, set[Patient]] = {}
        self.now = clock.monotonic_ms() // 1000
        """Monotonic seconds, as of the last turn: reading it costs nothing, noting it allocates nothing."""

    def start(self) -> None:
        """Turn once a second from now on."""
        self._turn()

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def see(self, patient: Patient, in_s: float) -> None:
        """Look at `patient` in `in_s` seconds, rather than when it was to be looked at before."""
        # One more, because `now` may be a second old; and rounded up.
        self._place(patient, self.now + 1 - int(-in_s // 1))

    def leave(self, patient: Patient) -> None:
        """`patient` needs no looking after any more."""
        self._place(patient, 0)

    def _place(self, patient: Patient, due: int) -> None:
        if patient.due == due:
            return
        if patient.due:
            bucket = self._buckets.get(patient.due)
            if bucket is not None:
                bucket.discard(patient)
        patient.due = due
        if due:
            self._buckets.setdefault(due, set()).add(patient)

    def _turn(self) -> None:
        last, self.now = self.now, self._clock.monotonic_ms() // 1000
        self._alarm = self._wheel.at((self.now + 1) * 1000, self._turn)
        for second in range(last + 1, self.now + 1):
            for patient in self._buckets.pop(second, ()):
                patient.due = 0
                due = patient.look(self.now)
                if due:
                    self._place(patient, max(due, self.now + 1))
