"""The project's images, built and run by a real engine: Docker where it answers, else Podman.

Without a registry the images' base cannot be fetched; on Debian it is made then (`_stand_in`), from Debian's packages
and a Python of the same version from this machine. What the Dockerfiles do with it is the same.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.needs import missing

ROOT = Path(__file__).resolve().parents[2]
_STORE = ROOT / ".tools" / "images"
_BUILD_S, _PULL_S = 900, 120
_HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LIBRARIES = (
    "ca-certificates,netbase,tzdata,libssl3,libffi8,zlib1g,libbz2-1.0,liblzma5,libsqlite3-0,libreadline8,libuuid1,"
    "libncursesw6"
)
"""What Python's own modules are linked against."""

HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
"""What the charts demand of a container; and this machine's network, as tests have no other."""


class Engine:
    """`build`, `run`, `export`; the names of images are the caller's."""

    def __init__(self, command: Sequence[str], *, build: Sequence[str] = (), run: Sequence[str] = ()) -> None:
        self._command, self._build, self.run_options = list(command), list(build), list(run)

    def build(self, dockerfile: str, tag: str) -> None:
        """From the top folder, as the Dockerfiles say."""
        self.call("build", *self._build, "--file", str(ROOT / dockerfile), "--tag", tag, str(ROOT), seconds=_BUILD_S)

    def build_text(self, dockerfile: str, tag: str) -> None:
        """From the text of a Dockerfile that copies nothing."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "Dockerfile")
            file.write_text(dockerfile)
            self.call("build", *self._build, "--file", str(file), "--tag", tag, folder, seconds=_BUILD_S)

    def inspect(self, tag: str) -> dict[str, Any]:
        [found] = json.loads(self.call("image", "inspect", tag))
        return dict(found)

    @contextmanager
    def running(self, name: str, tag: str, *arguments: str, options: Sequence[str] = HARDENED) -> Iterator[Container]:
        """A container of that name, from `tag`, removed at the end."""
        self.call("rm", "--force", name, check=False)
        self.call("run", "--detach", "--name", name, *self.run_options, *options, tag, *arguments)
        try:
            yield Container(self, name)
        finally:
            self.call("rm", "--force", name)

    def export(self, tag: str, path: Path) -> None:
        """The image as an archive, for another engine."""
        self.call("save", "--output", str(path), tag, seconds=_BUILD_S)

    def call(self, *arguments: str, seconds: float = 60, check: bool = True) -> str:
        """What the engine prints on stdout."""
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0 or not check, f"{' '.join(arguments)}: {done.stdout[-3_000:]}{done.stderr[-3_000:]}"
        return done.stdout


class Container:
    """One that runs, or has run."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self.name = engine, name

    def state(self) -> dict[str, Any]:
        [found] = json.loads(self._engine.call("container", "inspect", self.name))
        return dict(found["State"])

    def exec(self, *command: str) -> str:
        return self._engine.call("exec", self.name, *command)

    def stop(self, within_s: int) -> int:
        """As an orchestrator does: SIGTERM, and SIGKILL after `within_s`. The exit code."""
        self._engine.call("stop", "--time", str(within_s), self.name, seconds=within_s + 30)
        return int(self.state()["ExitCode"])

    def log(self) -> str:
        done = subprocess.run(
            [*self._engine._command, "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout


def engine() -> Engine:
    """The test is skipped without one."""
    if _answers(["docker", "info"]):
        return Engine(["docker"])
    if not shutil.which("podman"):
        missing("no engine for images (Debian: apt install podman runc debootstrap)")
    podman = _podman()
    base = _base_of("Dockerfile")
    if not _answers([*podman._command, "image", "exists", base]):
        _fetch_or_make(podman, base)
    return podman


def _answers(command: Sequence[str]) -> bool:
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def _podman() -> Engine:
    """With images of its own, so that a base made here is nobody else's; and with what this machine allows."""
    command = ["podman", "--root", str(_STORE), "--runroot", str(_STORE) + "-run"]
    if not Path("/run/systemd/system").exists():
        command += ["--cgroup-manager=cgroupfs"]
    if runc := shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        command += ["--runtime", runc]
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    allowed = {name: min(resource.getrlimit(limit)[1], 4096) for name, limit in limits.items()}
    run = [f"--ulimit={name}={most}:{most}" for name, most in allowed.items()]
    # Steps of a build need no container of their own, and so no more rights than this process has.
    return Engine(command, build=["--isolation=chroot", "--pull=missing"], run=[*run, "--pull=never"])


def _base_of(dockerfile: str) -> str:
    """What its stages are all built from."""
    [base] = {str(each) for each in re.findall(r"^FROM (\S+)", (ROOT / dockerfile).read_text(), re.MULTILINE)}
    return base


def _fetch_or_make(podman: Engine, base: str) -> None:
    try:
        podman.call("pull", base, seconds=_PULL_S)
    except (AssertionError, subprocess.TimeoutExpired) as why:
        version = base.partition(":")[2].partition("-")[0]
        with tempfile.TemporaryDirectory() as folder:
            _stand_in(Path(folder), version, why)
            archive = Path(folder) / "base.tar"
            subprocess.run(["tar", "-C", str(Path(folder) / "root"), "-cf", str(archive), "."], check=True)
            setting = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            podman.call("import", "--change", setting, str(archive), f"localhost/{base}", seconds=_BUILD_S)


def _stand_in(folder: Path, version: str, why: Exception) -> None:
    """`folder`/root: Debian with Python in /usr/local, as the official image has it."""
    if os.geteuid() != 0 or not shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        missing(f"the images' base cannot be fetched ({why}); making one needs root and debootstrap")
    root, home = folder / "root", _python_home(version)
    log = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={_LIBRARIES}", "bookworm", str(root)],
        capture_output=True, text=True, timeout=_BUILD_S,
    )  # fmt: skip
    assert log.returncode == 0, log.stdout[-3_000:]
    for each in (*(root / "var/cache/apt/archives").glob("*.deb"), *(root / "var/lib/apt/lists").glob("*_*")):
        each.unlink()
    local = root / "usr/local"
    for part in ("bin", "lib"):
        shutil.copytree(
            home / part, local / part, symlinks=True, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("test", "__pycache__", "*.a", "idlelib", "config-*"),
        )  # fmt: skip
    for script in local.glob("bin/pip*"):
        script.write_text(re.sub(r"^#!.*", f"#!/usr/local/bin/python{version}", script.read_text()))
    # A network that looks into TLS has a certificate of its own, which this machine trusts.
    shutil.copy(_HOST_CERTIFICATES, root / "etc/ssl/certs/host.crt")
    (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/host.crt\n")
    subprocess.run(["chroot", str(root), "/sbin/ldconfig"], check=True)


def _python_home(version: str) -> Path:
    """Of a Python of that version that can be moved: not Debian's own, whose modules lie elsewhere."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for candidate in (*pyenv.glob(f"{version}.*"), Path("/usr/local")):
        if (candidate / "bin" / f"python{version}").exists():
            return candidate
    missing(f"the images' base cannot be fetched, and there is no Python {version} in {pyenv} or /usr/local")
