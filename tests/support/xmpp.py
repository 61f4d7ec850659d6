"""Real XMPP servers for tests: Prosody and ejabberd, as Debian ships them, each with accounts and rosters of its own.

A server lives in a private folder on free ports of loopback and is ended by its pid. Neither may run as root: started
by root they run as `nobody`, else as whoever runs the tests. Both serve the same domains:

- ``chat.test``: accounts `u0`, `u1` … with their passwords on disk, so that every SASL mechanism for passwords works.
  Each has `contacts` mutual contacts among them (as far as there are accounts), in a ring, and the last `watchers`
  accounts are contacts of all the others: `XmppServer.contacts`.
- ``hashed.test``: the first `HASHED` of them again, stored as SCRAM keys, with empty rosters.
- ``component.test``: an external component (XEP-0114) with the secret `SECRET`; ``muc.test``: rooms.

STARTTLS is offered and not required; `tls_port` speaks TLS from the first byte. `certificate` vouches for the domains.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import proctree
from tests.support.needs import missing, needs_program
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.processes import Managed
from tests.support.waiting import wait_until

DOMAIN = "chat.test"
HASHED_DOMAIN = "hashed.test"
COMPONENT_DOMAIN = "component.test"
ROOMS_DOMAIN = "muc.test"
PASSWORD = "pencil & paper"
SECRET = "s3cret"
HASHED = 3
"""How many accounts there are at `HASHED_DOMAIN`."""
_NOBODY = 65_534
_TEMPLATES = Path(__file__).with_name("xmpp_servers")
_START_S = 60.0


class XmppServer(Managed):
    """What both have in common. Keeps its ports and its data over `stop`, `sigkill` and `start`.

    `accounts`: how many; `resume_s`: how long a lost session can be resumed; `queue`: how many stanzas wait for
    acknowledgement at most; `archive`: whether messages are archived (XEP-0313); quadratic in what one account gets.
    `log_logins`: for `logins_tried`; Prosody tells of those only among everything else.
    """

    kind = ""
    programs: Sequence[str] = ()
    _log_levels = ("", "")
    """Usual, and with every attempt to log in."""
    _attempt = ""
    """Matches each of those in the server's log."""

    def __init__(
        self,
        folder: Path,
        *,
        accounts: int = 3,
        contacts: int = 20,
        watchers: int = 0,
        resume_s: int = 300,
        queue: int = 500,
        archive: bool = False,
        log_logins: bool = False,
        name: str = "",
    ) -> None:
        for program in self.programs:
            needs_program(program, f"a real XMPP server (Debian: {self.kind})")
        # Not in pytest's folder: that one is closed to everybody else, and root's server is somebody else.
        self.scratch = Path(tempfile.mkdtemp(prefix="hfx-"))
        super().__init__(name or self.kind, folder, self._variables())
        self.accounts = accounts
        self.port, self.tls_port, self.component_port, self.http_port = (free_port() for _ in range(4))
        self._contacts = contacts
        self._watchers = watchers
        self._settings = {
            "DIR": str(self.scratch),
            "C2S": str(self.port),
            "TLS": str(self.tls_port),
            "COMPONENT": str(self.component_port),
            "HTTP": str(self.http_port),
            "RESUME": str(resume_s),
            "QUEUE": str(queue),
            "SECRET": SECRET,
            "LOG_LEVEL": self._log_levels[log_logins],
            **self._words(archive),
        }
        self._prepared = False

    def jid(self, number: int) -> str:
        """Bare JID of the account `u<number>`."""
        return f"u{number}@{DOMAIN}"

    def contacts(self, number: int) -> list[str]:
        """Bare JIDs of everybody who is in the roster of `u<number>`, and has it in theirs."""
        ring = self.accounts - self._watchers
        if number >= ring:
            return [self.jid(other) for other in range(ring)]
        reach = min(self._contacts // 2, (ring - 1) // 2)
        near = [(number + step) % ring for step in range(-reach, reach + 1) if step]
        return [self.jid(other) for other in [*near, *range(ring, self.accounts)]]

    @property
    def certificate(self) -> Path:
        """Trust this one: it is the server's own, for all its domains."""
        return self.scratch / "server.crt"

    def trust(self) -> ssl.SSLContext:
        """A context that accepts this server and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))

    async def start(self) -> None:
        """Start, or start again with what is on disk; returns when accounts can log in."""
        if not self._prepared:
            _write_certificate(self.scratch)
            self._prepare()
        _give_away(self.scratch)
        self.spawn([*_as_nobody(), *self._command()], death_signal=signal.SIGKILL)
        await wait_until(self._listening, f"{self.name} listens", _START_S)
        if not self._prepared:
            await asyncio.to_thread(self._fill)
        self._prepared = True

    async def stop(self) -> None:
        """SIGTERM: it tells its clients, and saves what it keeps. Returns when the process is gone and its ports free
        (with many sessions that takes seconds, and Prosody would start on a taken port without a word)."""
        self.process.terminate()
        await self.exit_code(_START_S)
        await self.kill_tree_members()

    async def sigkill(self) -> None:
        """The server's machine is gone."""
        proctree.stop(self.members())
        await self.kill_tree_members()

    async def restart(self, *, polite: bool = True) -> None:
        await (self.stop() if polite else self.sigkill())
        await self.start()

    def pause(self) -> None:
        """SIGSTOP: connected, and silent."""
        proctree.stop([self.pid])

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def kill_tree_members(self) -> None:
        await super().kill_tree()

    async def kill_tree(self) -> None:
        await super().kill_tree()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def server_log(self) -> str:
        """What the server itself logged."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.scratch.rglob("*.log")))

    def logins_tried(self) -> int:
        """How often somebody has tried to log in, with whatever success. Needs `log_logins`."""
        return len(re.findall(self._attempt, self.server_log()))

    def log_tail(self) -> str:
        lines = self.server_log().splitlines()[-60:]
        return "\n".join([super().log_tail(), f"--- the end of the log of {self.name} ---", *lines])

    def change_password(self, number: int, password: str) -> None:
        """For the next login of `u<number>`."""
        raise NotImplementedError

    def _listening(self) -> bool:
        self.check_running()
        ports = [self.port, self.tls_port, self.component_port]
        # Ours, and not somebody's who took the port meanwhile.
        return all(proctree.listeners(port, self.members()) and accepts(port) for port in ports) and self._answers()

    def _configure(self, template: str, path: Path) -> None:
        text = (_TEMPLATES / template).read_text()
        for word, value in self._settings.items():
            text = text.replace(f"@{word}@", value)
        path.write_text(text)

    def _variables(self) -> Mapping[str, str]:
        """The process's environment, over ours."""
        return {"HOME": str(self.scratch)}

    def _words(self, archive: bool) -> Mapping[str, str]:
        """More words for the template."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Write what has to be on disk before the first start."""
        raise NotImplementedError

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it does more than listen."""
        return True

    def _fill(self) -> None:
        """Make what can only be made in a running server."""


class Prosody(XmppServer):
    kind = "prosody"
    programs = ("prosody",)
    _log_levels = ("info", "debug")
    _attempt = r"Received\[c2s_unauthed\]: <auth "

    def _words(self, archive: bool) -> Mapping[str, str]:
        return {"MODULES": '"mam",' if archive else ""}

    def _command(self) -> Sequence[str]:
        return [needs_program("prosody", ""), "-F", "--config", str(self.scratch / "prosody.cfg.lua")]

    def _prepare(self) -> None:
        """Prosody's own storage is a file of Lua for each account and roster: thousands in a moment, without a tool."""
        self._configure("prosody.cfg.lua", self.scratch / "prosody.cfg.lua")
        accounts, rosters = (self._store(DOMAIN, what) for what in ("accounts", "roster"))
        for number in range(self.accounts):
            (accounts / f"u{number}.dat").write_text(_account(PASSWORD))
            contacts = "".join(
                f'["{jid}"] = {{ subscription = "both"; groups = {{}}; name = "{jid.partition("@")[0]}" }};\n'
                for jid in self.contacts(number)
            )
            head = "[false] = { version = 1; pending = {} };\n"
            (rosters / f"u{number}.dat").write_text(f"return {{\n{head}{contacts}}};\n")
        for number in range(HASHED):
            (self._store(HASHED_DOMAIN, "accounts") / f"u{number}.dat").write_text(_hashed_account())

    def change_password(self, number: int, password: str) -> None:
        accounts = self._store(DOMAIN, "accounts")  # which are read at each login
        (accounts / f"u{number}.dat").write_text(_account(password))

    def _store(self, host: str, what: str) -> Path:
        folder = self.scratch / "data" / host.replace(".", "%2e") / what
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Ejabberd(XmppServer):
    kind = "ejabberd"
    # Not ejabberdctl: it insists on being root or its own user, and on a name service for Erlang nodes.
    programs = ("erl",)
    _log_levels = ("warning", "info")
    _attempt = r"(Accepted|Failed) c2s \S+ authentication"

    def _variables(self) -> Mapping[str, str]:
        found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin"))
        if not found:
            missing("ejabberd is not installed: a real XMPP server (Debian: ejabberd)")
        return {
            **super()._variables(),
            "ERL_LIBS": str(found[-1].parent.parent),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "EJABBERD_CONFIG_PATH": str(self.scratch / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.scratch / "ejabberd.log"),
        }

    def _words(self, archive: bool) -> Mapping[str, str]:
        return {"MODULES": "  mod_mam: {default: always}" if archive else ""}

    def _command(self) -> Sequence[str]:
        # Two schedulers that do not spin: tests share their machine.
        machine = ["+K", "true", "+S", "2:2", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]
        spool = f'"{self.scratch}/spool"'
        return [needs_program("erl", ""), *machine, "-noinput", "-mnesia", "dir", spool, "-s", "ejabberd"]

    def _prepare(self) -> None:
        self._configure("ejabberd.yml", self.scratch / "ejabberd.yml")
        certificate, key = (self.scratch / f"server.{end}" for end in ("crt", "key"))
        (self.scratch / "server.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        (self.scratch / "spool").mkdir(exist_ok=True)

    def _answers(self) -> bool:
        try:
            return self.call("status", {}) is not None
        except (OSError, http.client.HTTPException, AssertionError):
            return False

    def _fill(self) -> None:
        """All accounts with their rosters from one file (XEP-0227)."""
        path = self.scratch / "accounts.xml"
        path.write_text("".join(self._export()))
        path.chmod(0o644)
        self.call("import_piefxis", {"file": str(path)})

    def _export(self) -> Iterator[str]:
        yield "<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'>"
        password = quoteattr(PASSWORD)
        yield f"<host jid='{DOMAIN}'>"
        for number in range(self.accounts):
            yield f"<user name='u{number}' password={password}><query xmlns='jabber:iq:roster'>"
            for jid in self.contacts(number):
                yield f"<item jid='{jid}' subscription='both' name='{jid.partition('@')[0]}'/>"
            yield "</query></user>"
        yield f"</host><host jid='{HASHED_DOMAIN}'>"
        for number in range(HASHED):
            yield f"<user name='u{number}' password={password}/>"
        yield "</host></server-data>"

    def change_password(self, number: int, password: str) -> None:
        self.call("change_password", {"user": f"u{number}", "host": DOMAIN, "newpass": password})

    def call(self, command: str, arguments: Mapping[str, object]) -> object:
        """A command of ejabberd's administration, over HTTP."""
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=_START_S)
        with contextlib.closing(connection):
            connection.request("POST", f"/api/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        assert response.status == 200, f"ejabberd's {command}: {response.status} {body[:300]!r}"
        return json.loads(body)


SERVERS: Mapping[str, type[XmppServer]] = {"prosody": Prosody, "ejabberd": Ejabberd}


def _as_nobody() -> Sequence[str]:
    """A command in front of another one: run that as an unprivileged user, if we are not one already."""
    if os.geteuid() != 0:
        return ()
    # Changing the user takes the death signal away (prctl(2)); it is asked for again.
    drop = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig", "KILL"]
    return [needs_program("setpriv", "to run a server as nobody"), *drop]


def _give_away(folder: Path) -> None:
    """To the user the server runs as, and to nobody else."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, _NOBODY, _NOBODY)


def _account(password: str) -> str:
    """As Prosody's internal_plain stores it."""
    return f"return {{ password = {json.dumps(password)} }};\n"


def _hashed_account() -> str:
    """As Prosody's internal_hashed stores it: SCRAM-SHA-1 keys (RFC 5802 §3)."""
    salt, count = secrets.token_hex(8), 4_096
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt.encode(), count)
    server_key = hmac.digest(salted, b"Server Key", "sha1").hex()
    stored_key = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).hexdigest()
    return (
        f'return {{ iteration_count = {count}; salt = "{salt}"; '
        f'server_key = "{server_key}"; stored_key = "{stored_key}" }};\n'
    )


def _write_certificate(folder: Path) -> None:
    """``server.crt`` and ``server.key``: self-signed, for every domain and for loopback's name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DOMAIN)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(domain) for domain in (DOMAIN, HASHED_DOMAIN, COMPONENT_DOMAIN, ROOMS_DOMAIN, "localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
