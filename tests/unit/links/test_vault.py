"""Credentials at rest: they open for their link and with their key only, and nothing shows them."""

from __future__ import annotations

import multiprocessing
import os
import stat
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.config import EdgeSettings, Secret, Settings
from edge.config.xmpp_kinds import key_of
from edge.errors import VaultError
from edge.links.vault import KEY_FILE, Vault
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token

OLD, NEW = bytes(32), bytes(range(32))
KEYS = ScramKeys("SHA-256", b"salt", 4096, b"client", b"server")
ACCOUNT = Account("u42", "hush-hush", (KEYS,))


def in_folder(folder: Path) -> Vault:
    return Vault.of(Settings(EdgeSettings(data_dir=str(folder))))


@pytest.mark.parametrize("credentials", [ACCOUNT, ACCOUNT.without_password(), Token("u", "t"), Certificate("u@a")])
def test_what_was_sealed_opens(credentials: Credentials) -> None:
    vault = Vault([NEW])
    sealed = vault.seal("x:u42", credentials)
    assert vault.open("x:u42", sealed) == credentials
    assert not vault.stale(sealed)
    assert vault.seal("x:u42", credentials) != sealed  # another nonce


def test_nothing_inside_can_be_read_without_the_key() -> None:
    sealed = Vault([NEW]).seal("x:u42", ACCOUNT)
    assert b"u42" not in sealed
    assert b"hush" not in sealed
    assert repr(Vault([NEW])) == "Vault(...)"


def test_an_older_key_opens_and_the_newest_seals() -> None:
    sealed = Vault([OLD]).seal("x:u42", ACCOUNT)
    vault = Vault([NEW, OLD])
    assert vault.open("x:u42", sealed) == ACCOUNT
    assert vault.stale(sealed)
    again = vault.seal("x:u42", ACCOUNT)
    assert not vault.stale(again)
    assert Vault([NEW]).open("x:u42", again) == ACCOUNT


def test_a_key_that_is_gone() -> None:
    with pytest.raises(VaultError) as refused:
        Vault([NEW]).open("x:u42", Vault([OLD]).seal("x:u42", ACCOUNT))
    assert str(refused.value) == (
        "no key in edge.link_keys (or link.key) opens what is stored to log x:u42 in: add the one it was sealed with "
        "behind the newest, or have the backend connect the link anew, with credentials"
    )


def test_what_was_sealed_for_another_link_does_not_open() -> None:
    vault = Vault([NEW])
    with pytest.raises(VaultError, match="x:u43 in is damaged, or was stored for another link"):
        vault.open("x:u43", vault.seal("x:u42", ACCOUNT))


def test_any_change_is_noticed() -> None:
    vault = Vault([NEW])
    sealed = vault.seal("x:u42", ACCOUNT)
    for at in range(len(sealed)):
        with pytest.raises(VaultError) as refused:
            vault.open("x:u42", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        assert "hush" not in str(refused.value)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            vault.open("x:u42", sealed[:length])


def test_credentials_of_a_version_to_come() -> None:
    sealed = Vault([NEW]).seal("x:a", ACCOUNT)[:17]
    strange = sealed + AESGCM(NEW).encrypt(sealed[5:], b'{"v": 2, "password": "hush"}', b"\x01x:a")
    with pytest.raises(VaultError) as refused:
        Vault([NEW]).open("x:a", strange)
    assert "have version 2, not 1" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_keys_come_from_the_settings() -> None:
    secrets = (Secret("correct horse battery staple"), Secret("another of some length"))
    vault = Vault.of(Settings(EdgeSettings(link_keys=secrets, data_dir="/nowhere/at/all")))
    sealed = Vault([key_of(secrets[1])]).seal("x:a", ACCOUNT)
    assert vault.open("x:a", sealed) == ACCOUNT
    assert vault.stale(sealed)


def test_without_any_a_file_is_made_and_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    sealed = in_folder(folder).seal("x:a", ACCOUNT)
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert len(b64decode((folder / KEY_FILE).read_text())) == 32
    assert in_folder(folder).open("x:a", sealed) == ACCOUNT


def _seal(folder: Path) -> bytes:
    return in_folder(folder).seal("x:a", ACCOUNT)


def test_workers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for number in range(8):
            folder = tmp_path / str(number)
            sealed = pool.map(_seal, [folder] * 4, chunksize=1)
            assert [in_folder(folder).open("x:a", blob) for blob in sealed] == [ACCOUNT] * 4
            assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("something else\n")
    with pytest.raises(VaultError, match=r"is not a key .base64 of 32 bytes.: put back the one that was there"):
        in_folder(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(b"\xff" * 32)
    with pytest.raises(VaultError, match="cannot be used: it is not text"):
        in_folder(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    os.close(os.open(tmp_path / "file", os.O_CREAT))
    with pytest.raises(VaultError, match=r"cannot be used: .*; make it possible, or set edge.link_keys"):
        in_folder(tmp_path / "file")


def test_no_key_at_all() -> None:
    with pytest.raises(VaultError, match=r"set edge\.link_keys"):
        Vault([])
