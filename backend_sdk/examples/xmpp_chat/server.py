"""A private Prosody for the example: on loopback, in a folder of its own, with three accounts who know each other.

Prosody refuses to run as root. Started by root it becomes `nobody`, and so does what is in its folder.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backend_sdk.examples.processes import HOST, is_free

DOMAIN = "chat.localhost"
ACCOUNTS = ("alice", "bob", "carol")
"""The password is the name: whoever reaches loopback may look around."""

USUAL_PORT = 5222
_NOBODY = 65_534
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

_CONFIG = """\
data_path = "{folder}/data"
certificates = "{folder}"
interfaces = {{ "{host}" }}
c2s_ports = {{ {port} }}
s2s_ports = {{}}
http_ports = {{}}
https_ports = {{}}
c2s_require_encryption = true
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "carbons", "smacks", "mam", "offline", "ping", "pep" }}
modules_disabled = {{ "s2s" }}
smacks_hibernation_time = 600
storage = "internal"
authentication = "internal_plain"
log = {{ warn = "*console" }}
VirtualHost "{domain}"
	ssl = {{ certificate = "{folder}/server.crt", key = "{folder}/server.key" }}
"""


class NotInstalled(Exception):
    """A program is missing; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Prosody:
    """How to start it, and what others have to know of it."""

    command: Sequence[str]
    port: int
    certificate: Path


def prepare(folder: Path) -> Prosody:
    """Write all that a Prosody needs to `folder`, which must not exist. Raises NotInstalled."""
    program = _find("prosody", "apt install prosody (Debian, Ubuntu), dnf install prosody, brew install prosody")
    port = USUAL_PORT if is_free(USUAL_PORT) else _free_port()
    for what in ("accounts", "roster"):
        (_storage(folder) / what).mkdir(parents=True)
    _write_certificate(folder)
    config = folder / "prosody.cfg.lua"
    config.write_text(_CONFIG.format(folder=folder, host=HOST, port=port, domain=DOMAIN))
    for name in ACCOUNTS:
        (_storage(folder) / "accounts" / f"{name}.dat").write_text(f"return {{ password = {json.dumps(name)} }};\n")
        contacts = "".join(
            f'["{other}@{DOMAIN}"] = {{ subscription = "both"; groups = {{}}; name = "{other.capitalize()}" }};\n'
            for other in ACCOUNTS
            if other != name
        )
        head = "[false] = { version = 1; pending = {} };\n"
        (_storage(folder) / "roster" / f"{name}.dat").write_text(f"return {{\n{head}{contacts}}};\n")
    certificate = folder.with_name(f"{folder.name}.crt")  # of an edge that must not need to look into the folder
    shutil.copy(folder / "server.crt", certificate)
    return Prosody([*_as_somebody(folder), program, "-F", "--config", str(config)], port, certificate)


def _storage(folder: Path) -> Path:
    """Where Prosody's `internal` storage looks: a file of Lua for each account."""
    return folder / "data" / DOMAIN.replace(".", "%2e")


def _as_somebody(folder: Path) -> Sequence[str]:
    """In front of the command, if we are root: run it as `nobody`, to whom `folder` is given."""
    if os.geteuid() != 0:
        return ()
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, _NOBODY, _NOBODY)
    drop = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    return [_find("setpriv", "apt install util-linux; or do not be root"), *drop]


def _find(program: str, how: str) -> str:
    path = shutil.which(program) or shutil.which(program, path=_SYSTEM_PATH)
    if path is None:
        raise NotInstalled(f"{program} is not installed. {how}")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _write_certificate(folder: Path) -> None:
    """``server.crt`` and ``server.key``: self-signed, for the domain."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DOMAIN)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN), x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").touch(mode=0o600)
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
