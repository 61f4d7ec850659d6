"""Pushpin with its connection manager (condure) and HTTP client (zurl): what Holdfast's users would take otherwise.

Everything runs in a scratch folder on free ports. Logging is turned down to warnings, limits that would refuse a
benchmark's load are raised; the rest is Pushpin's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.load.clients import Address, open_clients, source_addresses
from benchmarks.load.wire import Dialect, LoadError, client_frame, handshake, server_frame
from benchmarks.peers.base import ANSWER, MESSAGE, Cores, Running, Task
from benchmarks.peers.grip import grip_backend, publish_items
from benchmarks.peers.process import OPEN_FILES, Daemon, free_ports, output_of, program

_PROGRAMS = ("pushpin", "condure", "zurl", "nginx")
_LIBRARY = Path("/usr/lib/pushpin")
_IN_FLIGHT = 100
"""With 200 events under way at once, its internal queues overflow and it closes connections (tried on 1.36)."""


class Pushpin:
    name = "Pushpin"

    def absent(self) -> str | None:
        missing = [name for name in _PROGRAMS if not program(name)]
        if missing:
            return f"{', '.join(missing)} not installed (Debian: pushpin, zurl, nginx)"
        return None if (_LIBRARY / "internal.conf").exists() else f"{_LIBRARY}/internal.conf is missing"

    def versions(self) -> Mapping[str, str]:
        return {name: output_of(name, "--version").split()[-1] for name in ("pushpin", "condure", "zurl")}

    @contextmanager
    def run(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        with ExitStack() as stack:
            backend, upstream = stack.enter_context(grip_backend(task, folder / "backend", cores))
            port, publish, *others = free_ports(5)
            scratch = folder / "pushpin"
            _configure(scratch, port, publish, others, upstream)
            zurl = stack.enter_context(
                Daemon(
                    [program("zurl") or "zurl", f"--config={scratch}/zurl.conf", "--loglevel=1"], scratch, cores.server
                )
            )
            pushpin = stack.enter_context(
                Daemon([program("pushpin") or "pushpin", f"--config={scratch}/pushpin.conf"], scratch, cores.server)
            )
            pushpin.wait_for_port(port)
            pushpin.wait_for_port(publish)
            dialect = Dialect(
                handshake("/", f"127.0.0.1:{port}"), 0, client_frame(MESSAGE), server_frame(ANSWER), _IN_FLIGHT
            )
            # Its port accepts before all its processes have found each other: only a handshake shows that they have.
            pushpin.wait_for(lambda: _takes_clients(("127.0.0.1", port), dialect), "a first handshake")
            yield Running(
                address=("127.0.0.1", port),
                dialect=dialect,
                pids=lambda: zurl.pids() | pushpin.pids(),
                backend_pids=backend.pids,
                publish_address=("127.0.0.1", publish),
                publications=lambda count: [publish_items(publish, count)],
                publish_closes=True,
            )


def _takes_clients(address: Address, dialect: Dialect) -> bool:
    try:
        open_clients(address, 1, dialect, source_addresses(), deadline_s=5).close()
    except LoadError:
        return False
    return True


def _configure(scratch: Path, port: int, publish: int, others: list[int], upstream: int) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    pull, subscribe, command = others
    zurl = f"ipc://{scratch}/zurl"
    (scratch / "routes").write_text(f"* 127.0.0.1:{upstream},over_http\n")
    (scratch / "zurl.conf").write_text(
        f"[General]\ninstance_id=\nin_spec={zurl}-in\nin_stream_spec={zurl}-in-stream\nout_spec={zurl}-out\n"
        f"in_req_spec=\ndefpolicy=allow\nallow=\ndeny=\nmax_open_requests={OPEN_FILES}\nbuffer_size=200000\n"
        "timeout=600\nin_hwm=100000\nout_hwm=100000\n"
    )
    (scratch / "pushpin.conf").write_text(
        f"[global]\ninclude={_LIBRARY}/internal.conf\nrundir={scratch}\nipc_prefix=pushpin-\nport_offset=0\n"
        f"[runner]\nservices=condure,pushpin-proxy,pushpin-handler\nhttp_port=127.0.0.1:{port}\nlogdir={scratch}\n"
        f"log_level=1\nclient_buffer_size=8192\nclient_maxconn={OPEN_FILES}\ncondure_bin=condure\n"
        f"[proxy]\nroutesfile={scratch}/routes\nzurl_out_specs={zurl}-in\n"
        f"zurl_out_stream_specs={zurl}-in-stream\nzurl_in_specs={zurl}-out\nupdates_check=off\n"
        f"[handler]\npush_in_spec=tcp://127.0.0.1:{pull}\npush_in_sub_specs=tcp://127.0.0.1:{subscribe}\n"
        f"push_in_http_addr=127.0.0.1\npush_in_http_port={publish}\npush_in_http_max_body_size=1000000\n"
        f"command_spec=tcp://127.0.0.1:{command}\nmessage_rate=1000000\nmessage_hwm=1000000\n"
    )
