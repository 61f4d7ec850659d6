"""The supervisor and its workers, as real processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge.store.embedded import EmbeddedRedis
from tests.unit.lifecycle.conftest import DEADLINE_S, TinyEdge, gone, wait_for

Start = Callable[..., TinyEdge]


def test_starts_on_free_ports_and_says_where_in_one_line(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    public, control = edge.ports
    assert public != control
    assert edge.get("/about")["pid"] in edge.worker_pids()
    assert edge.get("/about", control)["pid"] in edge.worker_pids()
    assert len(set(edge.worker_pids())) == 2


def test_both_workers_serve_the_shared_port(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    seen: set[int] = set()

    def both() -> bool:
        seen.add(edge.get("/about")["index"])
        return seen == {0, 1}

    wait_for(both, "connections to reach both workers")


def test_each_worker_has_a_private_socket(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    run_dir = edge.data / "run" / str(edge.process.pid)
    sockets = sorted(run_dir.iterdir())
    assert [path.name for path in sockets] == ["worker-0.sock", "worker-1.sock"]
    assert [path.stat().st_mode & 0o077 for path in (*sockets, run_dir)] == [0, 0, 0]
    edge.kill()
    assert edge.wait() == 0
    assert not run_dir.exists()


def test_a_killed_worker_is_replaced_and_keeps_the_port(tiny: Start) -> None:
    edge = tiny().wait_ready()
    (first,) = edge.worker_pids()
    ports = edge.ports
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(edge.worker_pids()) == 2, "another worker")
    assert edge.get("/about", ports[0])["pid"] == edge.worker_pids()[1] != first
    assert "worker 0 died (signal SIGKILL); starting another in 0.1 s" in edge.log
    assert edge.out.count("holdfast is ready") == 1


def test_a_worker_told_to_go_down_by_itself_drains_and_is_replaced(tiny: Start) -> None:
    edge = tiny().wait_ready()
    held = edge.hold()
    os.kill(edge.worker_pids()[0], signal.SIGTERM)
    assert held.read() == b"1012\n"
    wait_for(lambda: len(edge.worker_pids()) == 2, "another worker")
    assert "worker 0 went down when it was told to; starting another" in edge.log


@pytest.mark.parametrize(
    ("fail", "cause"), [("reason", "there is no coffee"), ("bug", "RuntimeError: a bug")], ids=["reason", "bug"]
)
def test_gives_up_on_a_worker_that_always_dies_young(tiny: Start, fail: str, cause: str) -> None:
    edge = tiny(TINY_FAIL=fail)
    assert edge.wait() == 1
    assert f"worker 0 died 5 times within its first 10 s: {cause}; giving up" in edge.log
    assert edge.log.count("Traceback") == (5 if fail == "bug" else 0)
    assert edge.out == ""


def test_going_down_closes_clients_and_exits_0(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    held = [edge.hold() for _ in range(6)]
    pids = edge.worker_pids()
    edge.kill()
    assert [response.read() for response in held] == [b"1012\n"] * 6
    assert edge.wait() == 0
    assert all(gone(pid) for pid in pids)
    assert edge.log.count("drained") == 2
    assert "all workers are down" in edge.log


def test_readiness_fails_before_the_listener_closes(tiny: Start) -> None:
    edge = tiny("drain_delay_s = 30").wait_ready()
    edge.kill()
    wait_for(lambda: edge.get("/about")["reasons"] == ["draining"], "readiness to fail")
    held = edge.hold()  # new clients are still welcome
    edge.kill()
    assert held.read() == b"1012\n"
    assert edge.wait() == 0


def test_the_control_port_answers_while_clients_are_being_closed(tiny: Start) -> None:
    edge = tiny("drain_delay_s = 0\ndrain_window_s = 60").wait_ready()
    held = [edge.hold() for _ in range(3)]
    public, control = edge.ports
    edge.kill()
    edge.wait_log("no new connections from here on")
    with pytest.raises(ConnectionRefusedError):
        edge.get("/about", public)
    assert edge.get("/about", control)["reasons"] == ["draining"]
    edge.kill()
    assert [response.read() for response in held] == [b"1012\n"] * 3
    assert edge.wait() == 0


def test_a_second_signal_hurries(tiny: Start) -> None:
    edge = tiny("drain_delay_s = 60\ndrain_window_s = 60").wait_ready()
    held = edge.hold()
    edge.kill(signal.SIGINT)
    edge.wait_log("readiness fails now")
    start = time.monotonic()
    edge.kill(signal.SIGINT)
    assert held.read() == b"1012\n"
    assert edge.wait() == 0
    assert time.monotonic() - start < DEADLINE_S


def test_in_a_hurry_clients_that_do_not_end_are_cut_off(tiny: Start) -> None:
    edge = tiny("drain_delay_s = 60", TINY_SLOW="1").wait_ready()
    held = edge.hold()
    edge.kill()
    edge.wait_log("readiness fails now")
    edge.kill()
    assert edge.wait() == 0
    edge.wait_log("the time is up; cutting off what is left left=1")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        held.read()


def test_a_third_signal_kills(tiny: Start) -> None:
    edge = tiny("drain_delay_s = 60").wait_ready()
    os.kill(edge.worker_pids()[0], signal.SIGSTOP)  # it cannot obey
    for line in ("going down; once more to hurry", "hurrying"):
        edge.kill()
        edge.wait_log(line)
    edge.kill()
    assert edge.wait() == 0
    assert gone(edge.worker_pids()[0])


def test_stops_also_while_a_worker_starts(tiny: Start) -> None:
    edge = tiny(TINY_FAIL="hang")
    wait_for(lambda: _children(edge.process.pid), "a worker process")
    edge.kill()
    assert edge.wait() == 0
    assert edge.out == ""


def test_an_operator_can_make_the_whole_edge_go_down(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    edge.get("/drain")
    assert edge.wait() == 0
    assert edge.log.count("drained") == 2


def test_workers_do_not_outlive_a_killed_supervisor(tiny: Start) -> None:
    edge = tiny("workers = 2\ndrain_delay_s = 60").wait_ready()
    held = edge.hold()
    pids = edge.worker_pids()
    edge.kill(signal.SIGKILL)
    assert edge.wait() == -signal.SIGKILL
    wait_for(lambda: all(gone(pid) for pid in pids), "the workers to end")
    assert held.read() == b"1012\n"


def test_even_a_stuck_worker_does_not_outlive_a_killed_supervisor(tiny: Start) -> None:
    edge = tiny().wait_ready()
    (pid,) = edge.worker_pids()
    edge.get("/stuck")
    wait_for(lambda: _silent(edge.ports[0]), "the worker to be stuck")
    edge.kill(signal.SIGKILL)
    wait_for(lambda: gone(pid), "the worker to end")


def test_a_signal_that_reaches_workers_twice_does_not_hurry_them(tiny: Start) -> None:
    """systemd signals every process of a service, and the supervisor passes it on."""
    edge = tiny("drain_delay_s = 60").wait_ready()
    (pid,) = edge.worker_pids()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    edge.kill()
    edge.wait_log("going down; once more to hurry")  # two signals that nobody has seen yet would be one
    edge.wait_log("readiness fails now")
    assert edge.get("/about") == {**edge.get("/about"), "pid": pid, "reasons": ["draining"]}
    edge.kill()
    assert edge.wait() == 0


def test_reload_reaches_every_worker_without_a_restart(tiny: Start) -> None:
    edge = tiny("workers = 2").wait_ready()
    held = edge.hold()
    pids = edge.worker_pids()
    edge.write("workers = 3", '[[route]]\nbackend = "http://127.0.0.1:2"\n')
    edge.kill(signal.SIGHUP)
    wait_for(lambda: edge.log.count("new settings are in force routes=1") == 2, "both workers to take them over")
    assert edge.get("/about")["backends"] == ["http://127.0.0.1:2"]
    assert edge.worker_pids() == pids
    assert "edge.workers has changed, which takes effect at the next start only" in edge.log
    edge.kill()
    assert held.read() == b"1012\n"


def test_a_bad_file_leaves_the_old_settings_in_force_even_for_a_new_worker(tiny: Start) -> None:
    edge = tiny().wait_ready()
    edge.write("wrokers = 3", "[[route]]\n")
    edge.kill(signal.SIGHUP)
    edge.wait_log("the settings were not reloaded, the old ones stay in force")
    edge.wait_log(r"holdfast.toml:\d+: edge.wrokers is not a known setting: did you mean edge.workers\?")
    edge.wait_log(r"holdfast.toml:\d+: route\[0\].backend is missing")
    assert edge.get("/about")["backends"] == ["http://127.0.0.1:1"]
    os.kill(edge.worker_pids()[0], signal.SIGKILL)
    wait_for(lambda: len(edge.worker_pids()) == 2, "another worker")
    assert edge.get("/about")["backends"] == ["http://127.0.0.1:1"]


def test_a_new_worker_gets_the_reloaded_settings(tiny: Start) -> None:
    edge = tiny().wait_ready()
    edge.write("", '[[route]]\nbackend = "http://127.0.0.1:2"\n')
    edge.kill(signal.SIGHUP)
    edge.wait_log("new settings are in force")
    os.kill(edge.worker_pids()[0], signal.SIGKILL)
    wait_for(lambda: len(edge.worker_pids()) == 2, "another worker")
    assert edge.get("/about")["backends"] == ["http://127.0.0.1:2"]


def test_a_reload_cannot_take_the_tokens_from_an_open_control_port(tiny: Start) -> None:
    edge = tiny('control = "0.0.0.0:0"\ncontrol_tokens = ["0123456789abcdef"]').wait_ready()
    edge.write('control = "127.0.0.1:0"')
    edge.kill(signal.SIGHUP)
    edge.wait_log(r"edge.control = '0.0.0.0:0' is not accepted: .* needs edge.control_tokens")


XMPP = '[[route]]\nbackend = "http://127.0.0.1:1"\n[[xmpp]]\ndomain = "chat.example"\n'


def test_a_reload_may_bring_xmpp_servers(tiny: Start) -> None:
    edge = tiny(TINY_REDIS="1").wait_ready()
    edge.write("", XMPP)
    edge.kill(signal.SIGHUP)
    edge.wait_log("new settings are in force")


def test_a_reload_cannot_bring_xmpp_servers_to_a_redis_of_ones_own_without_keys(tiny: Start) -> None:
    edge = tiny('redis = "redis://127.0.0.1:1"').wait_ready()
    edge.write("", XMPP)
    edge.kill(signal.SIGHUP)
    edge.wait_log("edge.link_keys is missing: .* make one by `openssl rand -base64 32`")


@pytest.mark.parametrize("setting", ["listen", "control"])
def test_a_taken_port_is_refused_by_name(tiny: Start, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = taken.getsockname()[1]
        edge = tiny(f'{setting} = "127.0.0.1:{port}"')
        assert edge.wait() == 1
    assert f"edge.{setting} = '127.0.0.1:{port}' cannot be listened on: Address already in use" in edge.log
    assert "Traceback" not in edge.log


def test_two_edges_do_not_share_a_port(tiny: Start) -> None:
    """Both use SO_REUSEPORT: the kernel alone would let them."""
    first = tiny().wait_ready()
    second = tiny(f'listen = "127.0.0.1:{first.ports[0]}"')
    assert second.wait() == 1
    assert f"edge.listen = '127.0.0.1:{first.ports[0]}' cannot be listened on" in second.log


def test_a_port_can_be_used_again_at_once(tiny: Start) -> None:
    first = tiny().wait_ready()
    first.get("/about")
    first.kill()
    assert first.wait() == 0
    second = tiny(f'listen = "127.0.0.1:{first.ports[0]}"').wait_ready()
    assert second.ports[0] == first.ports[0]


def test_a_data_folder_that_cannot_be_made(tiny: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    edge = tiny(f'data_dir = "{tmp_path}/file/data"')
    assert edge.wait() == 1
    assert "cannot be written: Not a directory" in edge.log
    assert "Traceback" not in edge.log


def test_run_folders_of_killed_edges_are_removed(tiny: Start) -> None:
    first = tiny().wait_ready()
    shared = f'data_dir = "{first.data}"'
    first.kill(signal.SIGKILL)
    first.wait()
    for pid in first.worker_pids():
        wait_for(partial(gone, pid), "its worker to end")
    second = tiny(shared).wait_ready()
    assert [path.name for path in (first.data / "run").iterdir()] == [str(second.process.pid)]


def test_a_long_data_folder_does_not_break_the_sockets(tiny: Start, tmp_path: Path) -> None:
    edge = tiny(f'data_dir = "{tmp_path}/{"x" * 120}"').wait_ready()
    assert edge.get("/about")["index"] == 0


def test_systemd_is_told(tiny: Start, tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(place))
        notify.settimeout(DEADLINE_S)
        edge = tiny(NOTIFY_SOCKET=str(place))
        assert notify.recv(100) == b"READY=1"
        edge.kill()
        assert notify.recv(100) == b"STOPPING=1"
    assert edge.wait() == 0


def test_the_embedded_redis_is_started_restarted_and_ended(tiny: Start) -> None:
    edge = tiny(TINY_REDIS="1").wait_ready()
    assert "no Redis is configured: using an embedded one" in edge.log
    data = edge.data
    first = int((data / "redis.pid").read_text())
    os.kill(first, signal.SIGKILL)
    edge.wait_log("the embedded Redis is back")
    second = int((data / "redis.pid").read_text())
    assert not gone(second)
    edge.kill()
    assert edge.wait() == 0
    assert gone(second)


def test_a_data_folder_in_use_is_refused(tiny: Start, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data"):
        edge = tiny(f'data_dir = "{tmp_path}/data"', TINY_REDIS="1")
        assert edge.wait() == 1
    assert f"is in use by another Holdfast (process {os.getpid()})" in edge.log
    assert "Traceback" not in edge.log


def _silent(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as client:
        client.sendall(b"GET /about HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            return not client.recv(1)
        except TimeoutError:
            return True


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
