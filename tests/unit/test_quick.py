"""The hook's quick look at an engine: no process, few modules, one second at most."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plandock.engines import quick


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it, and no word about docker in the environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return folder


def install(path: Path, name: str) -> None:
    """Put a program of that name on the PATH."""
    (path / name).write_text("#!/bin/sh\n")
    (path / name).chmod(0o755)


@pytest.fixture
def listen(socket_folder: Path) -> Iterator[Callable[..., str]]:
    """A factory of Unix sockets that give one answer (or none) to whoever connects."""
    servers: list[socket.socket] = []
    over = threading.Event()

    def make(answer: bytes) -> str:
        name = str(socket_folder / f"{len(servers)}.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                # On a slow machine the question may be over; the next one is answered.
                with link, suppress(OSError):
                    link.recv(1000)
                    if answer:
                        link.sendall(answer)
                    else:
                        over.wait(250)  # the question has a time limit of its own

        threading.Thread(target=serve, daemon=True).start()
        return name

    yield make
    over.set()
    for server in servers:
        # Wakes the thread that accepts, which closing alone would not.
        server.shutdown(socket.SHUT_RDWR)
        server.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def test_docker_that_answers(
    path: Path, listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A docker whose socket answers well seems up."""
    install(path, "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listen(OK)}")
    assert quick.quick_check("docker") is None
    assert quick.quick_check("auto") is None


@pytest.mark.parametrize(
    "number", [errno.EAGAIN, errno.ECONNRESET, errno.EPIPE, errno.ENFILE, errno.ENOMEM, None]
)
def test_docker_counts_as_up_when_the_question_fails_for_the_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """A hand-off is lost to nothing but a docker that is not there."""
    install(path, "docker")

    def fails(_: str) -> bytes:
        raise OSError(number, "for the moment") if number else TimeoutError

    monkeypatch.setattr(quick, "_ping", fails)
    assert quick.quick_check("docker") is None


def test_docker_whose_socket_nobody_listens_at_is_down(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a socket, or a file in its place, that a daemon left behind."""
    install(path, "docker")
    (tmp_path / "s").touch()
    monkeypatch.chdir(tmp_path)
    for place in ("s", "s/docker.sock"):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
        assert quick.quick_check("docker") == "docker is not running"


def test_docker_that_does_not_answer_well(
    path: Path, listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error and a missing socket each give a reason."""
    install(path, "docker")
    monkeypatch.setattr(quick, "_TIMEOUT_S", 120.0)
    for endpoint, word in (
        (listen(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), "not well"),
        ("/nowhere/docker.sock", "not running"),
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{endpoint}")
        reason = quick.quick_check("docker")
        assert reason is not None
        assert word in reason


def test_a_docker_that_takes_its_time_counts_as_up(
    path: Path, listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is no refusal: a busy machine costs no hand-off, for a run waits for its engine."""
    install(path, "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listen(b'')}")
    assert quick.quick_check("docker") is None


@pytest.mark.parametrize("answer", [b"\n", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20"])
def test_docker_counts_as_up_when_its_answer_ends_before_a_status(
    path: Path, listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """A connection that breaks off is no refusal either."""
    install(path, "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{listen(answer)}")
    assert quick.quick_check("docker") is None


def test_nothing_installed(path: Path) -> None:
    """Without any engine each question has a reason."""
    assert quick.quick_check("docker") == "docker is not installed"
    assert quick.quick_check("podman") == "podman is not installed"
    reason = quick.quick_check("auto")
    assert reason is not None
    assert "docker" in reason
    assert "podman" in reason


def test_podman_stands_in_for_docker(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `auto`, a Podman that is installed is enough, for it has no daemon to ask."""
    install(path, "docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    install(path, "podman")
    assert quick.quick_check("auto") is None
    assert quick.quick_check("docker") is not None


@pytest.mark.parametrize("endpoint", ["tcp://192.0.2.1:2376", "ssh://me@host"])
def test_remote_docker_counts_as_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """An endpoint that takes long to ask is not asked."""
    install(path, "docker")
    monkeypatch.setenv("DOCKER_HOST", endpoint)
    assert quick.quick_check("docker") is None


def test_endpoint_of_a_context(
    path: Path, home: Path, listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context chosen in docker's configuration, or in the environment, is followed."""
    folder = home / ".docker"
    for name in ("colima", "other"):
        meta = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({"Endpoints": {"docker": {"Host": f"unix:///{name}.sock"}}}))
    assert quick.docker_endpoint() == "unix:///var/run/docker.sock"
    (folder / "config.json").write_text('{"currentContext": "colima"}')
    assert quick.docker_endpoint() == "unix:///colima.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert quick.docker_endpoint() == "unix:///other.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "absent")
    assert quick.docker_endpoint() == ""
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    assert quick.docker_endpoint() == "unix:///x.sock"


def test_unreadable_configuration(home: Path, path: Path) -> None:
    """A broken configuration file is read as none."""
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text("[")
    assert quick.docker_endpoint() == "unix:///var/run/docker.sock"


def test_loads_little() -> None:
    """The hook waits for this import, so it loads neither the engines nor anything that starts."""
    code = (
        "import sys; import plandock.engines.quick;"
        "print(*sorted(m for m in sys.modules if m.startswith('plandock')));"
        "print('subprocess' in sys.modules, 'ssl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "plandock plandock.engines plandock.engines.quick"
    assert done.stdout.split("\n")[1] == "False False"
