"""The set-up: which daemon is ours to stop, and what is passed on to tests."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from tools.setup import base_image, daemon, folder
from tools.setup.commands import SetupError
from tools.setup.engines import _rootless_storage, asked_for, bridge_works


@pytest.fixture(autouse=True)
def setup_folder(tmp_path, monkeypatch):
    """A set-up folder of this test's own: the real one may own a running daemon."""
    monkeypatch.setenv("PLANDOCK_SETUP_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def bystander():
    """A process that is not ours to stop, or is, by what the record says."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_a_process_id_used_again_is_not_stopped(setup_folder, bystander):
    """The record holds the moment of the start; another one means another process."""
    record = setup_folder / "dockerd.json"
    record.write_text(json.dumps({"pid": bystander.pid, "started": "another boot 1"}))
    daemon.stop()
    assert bystander.poll() is None
    assert not record.exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
@pytest.mark.skipif(os.geteuid() != 0, reason="a daemon is stopped as root")
def test_the_daemon_that_was_started_is_stopped(setup_folder, bystander):
    """The positive control: same id, same start."""
    started = daemon.process_start(bystander.pid)
    record = {"pid": bystander.pid, "started": started}
    (setup_folder / "dockerd.json").write_text(json.dumps(record))
    assert daemon.ours() == bystander.pid
    daemon.stop()
    assert bystander.wait(timeout=120) != 0


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_a_pid_file_that_names_another_program_stops_no_daemon_from_starting(
    setup_folder, bystander
):
    """dockerd refuses to start beside any living process of that number."""
    file = setup_folder / "dockerd.pid"
    file.write_text(f"{bystander.pid}")
    daemon._outwait(file)
    assert not file.exists()
    assert bystander.poll() is None


def test_recorded_variables_are_merged():
    """A later step keeps what an earlier one recorded; None takes a variable out."""
    folder.record_env({"A": "1", "B": "x=y", "C": "3"})
    folder.record_env({"A": "2", "C": None})
    assert folder.read_env() == {"A": "2", "B": "x=y"}


def test_what_is_in_use_is_not_stopped():
    """A second `make` in the same clone keeps the daemon up."""
    with folder.in_use(), folder.unused() as nobody:
        assert not nobody
    with folder.unused() as nobody:
        assert nobody


def test_sources_of_the_base_image_are_this_machines_mirrors(monkeypatch):
    """The addresses come from apt, the suites are the image's; other archives stay out."""
    told = (
        "Debian|Debian|http://mirror.invalid/debian/|Packages\n"
        "Debian|Debian-Security|http://mirror.invalid/security/|Packages\n"
        "Somebody|Tools|http://tools.invalid/|Packages\n"
    )
    done = subprocess.CompletedProcess([], 0, told, "")
    monkeypatch.setattr(base_image, "attempt", lambda *_, **__: done)
    lines = [
        line.split("] ")[-1].removeprefix("deb ") for line in base_image._sources().split("\n")
    ]
    assert lines == [
        "http://mirror.invalid/debian/ bookworm main",
        "http://mirror.invalid/debian/ bookworm-updates main",
        "http://mirror.invalid/security/ bookworm-security main",
        "",
    ]


def test_an_unknown_engine_is_refused(monkeypatch):
    """A misspelt engine does not quietly mean fewer tests."""
    monkeypatch.setenv("PLANDOCK_TEST_ENGINES", "docker,podmann")
    with pytest.raises(SetupError, match="podmann"):
        asked_for()
    monkeypatch.setenv("PLANDOCK_TEST_ENGINES", "podman")
    assert asked_for() == ("podman",)


def test_rootless_podman_is_found_from_another_home(tmp_path, monkeypatch):
    """Where its images lie is named in a way that it goes by, whatever HOME says."""
    store = {"graphDriverName": "vfs", "graphRoot": "/h/storage", "runRoot": "/r"}
    program = tmp_path / "podman"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'store': store})}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = tomllib.loads(_rootless_storage().read_text())["storage"]
    assert said["rootless_storage_path"] == said["graphroot"] == "/h/storage"
    assert (said["driver"], said["runroot"]) == ("vfs", "/r")


@pytest.mark.parametrize(
    ("networks", "code", "said"),
    [
        ("host none", 0, "default bridge is missing"),
        ("bridge host none", 125, "default bridge is missing: could not find bridge docker0"),
        ("bridge host none", 0, ""),
    ],
)
def test_bridge_is_missed_when_docker_has_none_or_cannot_use_it(
    tmp_path, monkeypatch, networks, code, said
):
    """A daemon without one starts a container on it all the same: the list is looked at, too."""
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"network) printf '%s\\n' {networks};;\n"
        f"run) echo 'could not find bridge docker0' >&2; exit {code};;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if not said:
        bridge_works("an-image")
        return
    with pytest.raises(SetupError, match=said) as refused:
        bridge_works("an-image")
    assert "bridge=none" in refused.value.hint
