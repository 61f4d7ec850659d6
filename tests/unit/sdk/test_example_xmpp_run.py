"""`make run-xmpp`: what it says when something is missing, and what it tells the edge."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from backend_sdk.examples.xmpp_chat import run, server


def test_without_a_prosody_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    monkeypatch.setattr(run, "stop_when_asked", lambda: None)
    monkeypatch.setattr(run, "complain_of_taken", lambda ports, verb: False)
    assert run.main([]) == 1
    said = capsys.readouterr().err
    assert "prosody is not installed" in said
    assert "apt install prosody" in said
    assert "--server" in said


@pytest.fixture
def prosody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Network:
    monkeypatch.setattr("shutil.which", lambda program, path=None: f"/usr/bin/{program}")
    return run.own_network(tmp_path)


def config(folder: Path, network: run.Network) -> dict[str, Any]:
    return tomllib.loads(run.write_config(folder, network).read_text())


def test_the_edge_is_told_of_the_private_server_and_trusts_its_certificate(
    tmp_path: Path, prosody: run.Network
) -> None:
    [xmpp] = config(tmp_path, prosody)["xmpp"]
    assert (xmpp["domain"], xmpp["host"], xmpp["port"]) == (server.DOMAIN, "127.0.0.1", prosody.port)
    assert Path(xmpp["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert config(tmp_path, prosody)["channel"][0]["prefix"] == "talk:"


def test_the_servers_key_and_passwords_belong_to_whom_it_runs_as(tmp_path: Path, prosody: run.Network) -> None:
    folder = tmp_path / "prosody"
    assert (folder / "server.key").stat().st_mode & 0o077 == 0
    owners = {path.stat().st_uid for path in [folder, *folder.rglob("*")]}
    assert owners == {65_534 if os.geteuid() == 0 else os.geteuid()}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--server", "chat.example"], {"domain": "chat.example"}),
        (
            ["--server", "xmpp.example", "--domain", "chat.example"],
            {"domain": "chat.example", "host": "xmpp.example", "port": 0},
        ),
        (
            ["--server", "10.0.0.1:5222", "--domain", "corp.example", "--ca", "/etc/ca.pem"],
            {"domain": "corp.example", "host": "10.0.0.1", "port": 5222, "ca_file": "/etc/ca.pem"},
        ),
    ],
)
def test_a_server_of_ones_own(tmp_path: Path, arguments: list[str], expected: dict[str, Any]) -> None:
    network = run.other_network(run.parse(arguments))
    assert config(tmp_path, network)["xmpp"] == [expected]
    assert network.command == ()
    assert network.domain in network.hint
