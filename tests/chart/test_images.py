"""The images: small, not root, and complete with no more than what the Dockerfile copies."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.helm import ROOT

pytestmark = pytest.mark.chart

FILES = ["Dockerfile", "backend_sdk/examples/Dockerfile"]


def instructions(name: str) -> list[tuple[str, str]]:
    """Of the last stage, in order."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    all_of_them = [(word.upper(), rest) for word, rest in lines]
    last = max(at for at, (word, _) in enumerate(all_of_them) if word == "FROM")
    return all_of_them[last:]


@pytest.mark.parametrize("name", FILES)
def test_the_last_stage_is_not_root_and_has_no_build_tools(name: str) -> None:
    stage = instructions(name)
    words = dict(stage)
    assert words["USER"] == "10001:10001"
    assert words["STOPSIGNAL"] == "SIGTERM"
    assert words["ENTRYPOINT"].startswith("[")
    assert "PYTHONDONTWRITEBYTECODE=1" in words["ENV"]
    runs = " ".join(rest for word, rest in stage if word == "RUN")
    assert not any(tool in runs for tool in ("apt-get", "pip install", "build-essential"))
    assert [word for word, _ in stage].index("USER") > [word for word, _ in stage].index("RUN")


def test_what_the_build_copies_is_all_that_installing_needs(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    shown = [line.removeprefix("!") for line in lines if line.startswith("!")]
    context = tmp_path / "context"
    context.mkdir()
    for name in shown:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, context / name)
    for name in FILES:
        for line in (ROOT / name).read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source_name in line.split()[1:-1]:
                    assert any(fnmatch.fnmatch(source_name, each) for each in shown), f"{source_name} is not sent along"
    wheels = tmp_path / "wheels"
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(context)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.iterdir()
    inside = set(zipfile.ZipFile(wheel).namelist())
    for needed in ("edge/cli.py", "edge/store/lua/commit.lua", "backend_sdk/examples/chat/app.py"):
        assert needed in inside
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    said = subprocess.run(
        [sys.executable, "-m", "edge", "version"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
