"""Prosody and ejabberd, as Debian ships them: what holders of XMPP sessions log in to. Neither is compared.

Accounts `u0`, `u1` … exist in each domain, each with a roster of mutual contacts, as users have them:

- PLAIN_DOMAIN takes SASL PLAIN only: what a login costs is then XMPP and TLS, and no hashing of passwords. Contacts are
  the accounts themselves, in a ring.
- AWAY_DOMAIN is the same, with contacts that never log in.
- KEYS_DOMAIN is the first again, but stores SCRAM-SHA-1 keys and takes SCRAM only, as servers are advised to.

ejabberd has the first only. TLS is offered (STARTTLS) and not required.

COMPONENT_DOMAIN is an external component (XEP-0114) to send from and to. There is no message archive: kept in files, it
is quadratic in what one account gets, and would be what is measured. Neither server may run as root; started by root
they run as `nobody`.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.goals import EJABBERD, PROSODY
from benchmarks.measure import command_of
from benchmarks.peers.base import Cores, Program
from benchmarks.peers.process import Daemon, ServerError, free_ports, output_of, program

PLAIN_DOMAIN = "plain.bench"
AWAY_DOMAIN = "away.bench"
KEYS_DOMAIN = "keys.bench"
COMPONENT_DOMAIN = "component.bench"
PASSWORD = "correct horse"
SECRET = "s3cret"
"""The component's."""
CONTACTS = 20
SALT = b"16 bytes of salt"
ITERATIONS = 4_096
"""Of every account's SCRAM keys."""
_RESUME_S = 600
"""How long a lost session can be resumed."""
_QUEUE = 500
"""Stanzas of a lost session that are kept at most."""
_FRIENDS = 50
"""Accounts that have the same contacts, where these are others."""
_NOBODY = 65_534
_FILL_S = 300.0


@dataclass(frozen=True, slots=True)
class Way:
    """How accounts log in."""

    domain: str
    tls: bool = True


@dataclass(frozen=True, slots=True)
class XmppServer:
    """A started server."""

    port: int
    component_port: int
    certificate: Path
    """Trust this one: it is the server's own, for all domains."""
    pids: Callable[[], frozenset[int]]


class XmppServers(Program, Protocol):
    """A kind of server."""

    def run(
        self, accounts: int, folder: Path, cores: Cores, *, tuned: bool = False
    ) -> AbstractContextManager[XmppServer]:
        """Start one with so many accounts, in a fresh folder; `tuned`: not as it comes, where there is something to set
        for thousands of sessions. Raises ServerError."""
        ...


Rosters = Mapping[str, Sequence[str]]
"""By account, whom it has in its roster, and who has it in theirs."""


def ring(accounts: int) -> Rosters:
    """Contacts are the nearest on both sides."""
    reach = min(CONTACTS // 2, (accounts - 1) // 2)
    steps = [step for step in range(-reach, reach + 1) if step]
    return {f"u{number}": [f"u{(number + step) % accounts}" for step in steps] for number in range(accounts)}


def with_others(accounts: int) -> Rosters:
    """Contacts are `c0`, `c1` …, who share their contacts with those next to them."""
    rosters: dict[str, list[str]] = {}
    for number in range(accounts):
        first = number // _FRIENDS * CONTACTS
        rosters[f"u{number}"] = [f"c{other}" for other in range(first, first + CONTACTS)]
        for contact in rosters[f"u{number}"]:
            rosters.setdefault(contact, []).append(f"u{number}")
    return rosters


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What SCRAM-SHA-1 makes of PASSWORD (RFC 5802, section 3), the same for every account of KEYS_DOMAIN."""

    client_key: bytes
    server_key: bytes

    @property
    def stored_key(self) -> bytes:
        return hashlib.sha1(self.client_key).digest()


def stored_keys() -> StoredKeys:
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), SALT, ITERATIONS)
    return StoredKeys(hmac.digest(salted, b"Client Key", "sha1"), hmac.digest(salted, b"Server Key", "sha1"))


class Prosody:
    """Single-threaded: whatever its clients do, it logs in as many as one core can. Half of that core goes into marking
    a heap of many sessions again whenever it has grown by a twentieth (0.12's default); tuned, it collects garbage by
    generations (https://prosody.im/doc/advanced_gc)."""

    name = PROSODY

    def absent(self) -> str | None:
        return None if program("prosody") else "prosody is not installed (Debian: prosody)"

    def versions(self) -> Mapping[str, str]:
        return {"prosody": output_of("dpkg-query", "-W", "-f", "${Version}", "prosody")}

    @contextmanager
    def run(self, accounts: int, folder: Path, cores: Cores, *, tuned: bool = False) -> Iterator[XmppServer]:
        port, component = free_ports(2)
        certificate = _certificate(folder)
        (folder / "prosody.cfg.lua").write_text(_prosody_settings(folder, port, component, tuned))
        _prosody_accounts(folder / "data", accounts)
        command = [program("prosody") or "prosody", "-F", "--config", f"{folder}/prosody.cfg.lua"]
        with _unprivileged(command, folder, cores) as daemon:
            daemon.wait_for_port(port)
            daemon.wait_for_port(component)
            yield XmppServer(port, component, certificate, daemon.pids)


def _prosody_settings(folder: Path, port: int, component: int, tuned: bool) -> str:
    # Not loaded: limits, which holds a connection to 10 kB/s.
    others = '"DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"'
    return f"""{'gc = { mode = "generational" }' if tuned else ""}
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
network_backend = "epoll"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
component_interfaces = {{ "127.0.0.1" }}
component_ports = {{ {component} }}
network_settings = {{ tcp_backlog = 4096 }}
s2s_ports = {{}}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
http_ports = {{}}
https_ports = {{}}
log = {{ warn = "{folder}/prosody.log" }}
storage = "internal"
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "carbons", "smacks", "csi_simple", "ping", "offline" }}
modules_disabled = {{ "s2s" }}
smacks_hibernation_time = {_RESUME_S}
smacks_max_queue_size = {_QUEUE}
ssl = {{ certificate = "{folder}/server.crt", key = "{folder}/server.key" }}
VirtualHost "{PLAIN_DOMAIN}"
	authentication = "internal_plain"
	disable_sasl_mechanisms = {{ {others} }}
VirtualHost "{AWAY_DOMAIN}"
	authentication = "internal_plain"
	disable_sasl_mechanisms = {{ {others} }}
VirtualHost "{KEYS_DOMAIN}"
	authentication = "internal_hashed"
	disable_sasl_mechanisms = {{ "PLAIN", "SCRAM-SHA-1-PLUS" }}
Component "{COMPONENT_DOMAIN}"
	component_secret = "{SECRET}"
"""


def _prosody_accounts(data: Path, accounts: int) -> None:
    """Prosody's own storage is a file of Lua for each account and roster: thousands in a moment, without a tool."""
    keys = stored_keys()
    plain = f"password = {json.dumps(PASSWORD)}"
    hashed = (
        f'iteration_count = {ITERATIONS}; salt = "{SALT.decode()}"; '
        f'server_key = "{keys.server_key.hex()}"; stored_key = "{keys.stored_key.hex()}"'
    )
    circle = ring(accounts)
    domains = {
        PLAIN_DOMAIN: (circle, plain),
        AWAY_DOMAIN: (with_others(accounts), plain),
        KEYS_DOMAIN: (circle, hashed),
    }
    for domain, (rosters, secret) in domains.items():
        here = data / domain.replace(".", "%2e")
        for store in ("accounts", "roster"):
            (here / store).mkdir(parents=True)
        for account, contacts in rosters.items():
            (here / "accounts" / f"{account}.dat").write_text(f"return {{ {secret} }};\n")
            items = "".join(
                f'["{name}@{domain}"] = {{ subscription = "both"; groups = {{}}; name = "{name}" }};\n'
                for name in contacts
            )
            head = "[false] = { version = 1; pending = {} };\n"
            (here / "roster" / f"{account}.dat").write_text(f"return {{\n{head}{items}}};\n")


class Ejabberd:
    """Held to one core, as Prosody is. There is nothing to tune."""

    name = EJABBERD

    def absent(self) -> str | None:
        # Not ejabberdctl: it insists on being root or its own user, and on a name service for Erlang nodes.
        if program("erl") and program("setpriv") and _ejabberd_libraries():
            return None
        return "ejabberd is not installed (Debian: ejabberd)"

    def versions(self) -> Mapping[str, str]:
        return {"ejabberd": output_of("dpkg-query", "-W", "-f", "${Version}", "ejabberd")}

    @contextmanager
    def run(self, accounts: int, folder: Path, cores: Cores, *, tuned: bool = False) -> Iterator[XmppServer]:
        port, component, administration = free_ports(3)
        certificate = _certificate(folder)
        (folder / "server.pem").write_bytes(certificate.read_bytes() + (folder / "server.key").read_bytes())
        (folder / "ejabberd.yml").write_text(_ejabberd_settings(folder, port, component, administration))
        (folder / "accounts.xml").write_text("".join(_exported(accounts)))
        (folder / "spool").mkdir()
        schedulers = ["+K", "true", "+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]
        command = [program("erl") or "erl", *schedulers, "-noinput", "-mnesia", "dir", f'"{folder}/spool"']
        environment = {
            "ERL_LIBS": str(_ejabberd_libraries()),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "EJABBERD_CONFIG_PATH": f"{folder}/ejabberd.yml",
            "EJABBERD_LOG_PATH": f"{folder}/ejabberd.log",
        }
        with _unprivileged([*command, "-s", "ejabberd"], folder, cores, environment) as daemon:
            daemon.wait_for(lambda: _told(administration, "status", {}), "status of ejabberd")
            daemon.wait_for_port(port)
            daemon.wait_for_port(component)
            if not _told(administration, "import_piefxis", {"file": f"{folder}/accounts.xml"}):
                raise ServerError("ejabberd does not import accounts")
            # Not Erlang's little helpers: they come and go, and do nothing here.
            erlang = frozenset(pid for pid in daemon.pids() if command_of(pid).startswith("beam"))
            yield XmppServer(port, component, certificate, lambda: erlang)


def _ejabberd_libraries() -> Path | None:
    found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin"))
    return found[-1].parent.parent if found else None


def _ejabberd_settings(folder: Path, port: int, component: int, administration: int) -> str:
    components = f'{{"{COMPONENT_DOMAIN}": {{password: "{SECRET}"}}}}'
    listener = 'ip: "127.0.0.1", shaper: none, access: all'
    return f"""
hosts: ["{PLAIN_DOMAIN}"]
loglevel: error
certfiles: ["{folder}/server.pem"]
auth_method: [internal]
auth_password_format: plain
disable_sasl_mechanisms: [DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-256, SCRAM-SHA-512, X-OAUTH2]
queue_type: ram
listen:
  - {{port: {port}, module: ejabberd_c2s, starttls: true, max_stanza_size: 262144, backlog: 4096, {listener}}}
  - {{port: {component}, module: ejabberd_service, {listener}, hosts: {components}}}
  - {{port: {administration}, ip: "127.0.0.1", module: ejabberd_http, request_handlers: {{/api: mod_http_api}}}}
acl: {{loopback: {{ip: [127.0.0.0/8]}}}}
api_permissions:
  "loopback": {{who: [{{acl: loopback}}], what: "*"}}
modules:
  mod_admin_extra: {{}}
  mod_http_api: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resume_timeout: {_RESUME_S}, max_resume_timeout: {_RESUME_S}, max_ack_queue: {_QUEUE}}}
"""


def _exported(accounts: int) -> Iterator[str]:
    """All accounts with their rosters (XEP-0227)."""
    yield f"<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'><host jid='{PLAIN_DOMAIN}'>"
    for account, contacts in ring(accounts).items():
        yield f"<user name='{account}' password='{PASSWORD}'><query xmlns='jabber:iq:roster'>"
        for name in contacts:
            yield f"<item jid='{name}@{PLAIN_DOMAIN}' subscription='both' name='{name}'/>"
        yield "</query></user>"
    yield "</host></server-data>"


def _told(port: int, command: str, arguments: Mapping[str, object]) -> bool:
    """A command of ejabberd's administration, over HTTP; False when it is not taken."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_FILL_S)) as connection:
        try:
            connection.request("POST", f"/api/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return False
    return response.status == 200


@contextmanager
def _unprivileged(
    command: Sequence[str], folder: Path, cores: Cores, environment: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """On the generator's core: it has little to do while sessions are held."""
    if os.geteuid() == 0:
        setpriv = program("setpriv") or "setpriv"
        command = [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
        # Scratch folders are root's own, and this one is not root's server's.
        folder.parent.chmod(0o711)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _NOBODY, _NOBODY)
    with Daemon(command, folder, cores.load, {"HOME": str(folder), **(environment or {})}) as daemon:
        yield daemon


def _certificate(folder: Path) -> Path:
    """``server.crt`` and ``server.key``, self-signed, for all domains."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, PLAIN_DOMAIN)])
    names = [x509.DNSName(domain) for domain in (PLAIN_DOMAIN, AWAY_DOMAIN, KEYS_DOMAIN)]
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
