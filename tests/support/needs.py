"""Programs a test cannot do without: absent, the test is skipped on a laptop and fails where CI=true."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def needs_program(name: str, why: str) -> str:
    """Path of the program `name`, looked up in PATH and the sbin folders that users often lack there.

    Absent: the calling test is skipped with `why` as the reason, or fails under ``CI=true``, where a skip
    would hide that nothing was tested.
    """
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        missing(f"{name} is not installed: {why}")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the calling test with `reason`, or fail it under ``CI=true``."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
