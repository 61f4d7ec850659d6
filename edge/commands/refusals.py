"""The two ways in which a command ends without having done what it was for; `control_client.guarded` prints them."""

from __future__ import annotations


class Failed(Exception):
    """It did not happen, or nobody knows (exit code 1); the text says why and what to do. `status`, `code`: the API's,
    when it was the API that refused; 0 and ``""`` otherwise."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class WrongUsage(Exception):
    """What was asked for makes no sense (exit code 2); the text says why."""
