"""Presets in `egress`: which hosts and addresses they come down to, all clients together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from plandock.gateway import presets
from plandock.gateway.clients.user import User
from tests.support.clients import put

ROOT = Path(__file__).resolve().parents[2]


def names(monkeypatch: pytest.MonkeyPatch, table: dict[str, list[str]]) -> None:
    """Have names resolve as in the table."""

    def lookup(name: str, *_: object, **__: object) -> list[Any]:
        if name not in table:
            raise OSError("unknown")
        return [(2, 1, 6, "", (address, 443)) for address in table[name]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def test_names_of_presets_are_pinned_and_typed_names_are_not(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror in a company's network is reached at that address; a typed name only in public."""
    put(user.home, ".npmrc", "registry=https://npm.example.com/\n")
    names(monkeypatch, {"npm.example.com": ["10.1.2.3", "10.1.2.4"]})
    way = presets.find(("npm", "intranet.example.com"), user.environ, "/absent")
    assert way.pins == {
        "intranet.example.com": [],
        "npm.example.com": ["10.1.2.3", "10.1.2.4"],
    }
    assert way.reach == {"npm": ["npm.example.com"], "egress": ["intranet.example.com"]}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_a_name_on_this_machine_or_the_link_is_never_pinned(
    user: User, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """No way to a service of the host or to a cloud's metadata, and a note that says so."""
    put(user.home, ".npmrc", "registry=https://npm.example.com/\n")
    names(monkeypatch, {"npm.example.com": [address]})
    way = presets.find(("npm",), user.environ, "/absent")
    assert way.pins == {"npm.example.com": []}
    assert "no address" in way.notes[0]


def test_a_repositorys_settings_do_not_choose_the_mirror(
    user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables that `.claude/settings.json` names are not the user's; others are (control)."""
    names(monkeypatch, {})
    put(tmp_path, "npmrc", "registry=https://npm.example.com/\n")
    environ = {
        **user.environ,
        "npm_config_globalconfig": str(tmp_path / "npmrc"),
        "npm_config_registry": "https://evil.example.com/",
        "PIP_INDEX_URL": "https://own.example.com/simple",
    }
    env = {"npm_config_registry": "https://evil.example.com/", "HOME": str(tmp_path)}
    put(tmp_path, ".claude/settings.json", json.dumps({"env": env}))
    way = presets.find(("npm", "pypi"), environ, str(tmp_path))
    assert way.reach == {"npm": ["npm.example.com"], "pypi": ["own.example.com"]}
    control = presets.find(("npm",), environ, "/absent")
    assert control.reach == {"npm": ["evil.example.com"]}


def test_without_presets_no_client_is_read(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is allowed, and nothing is said to the box but the certificates."""
    put(user.home, ".npmrc", "registry=https://npm.example.com/\n")
    way = presets.find((), user.environ, "/absent")
    assert (way.reach, way.pins, way.clients, way.notes) == ({}, {}, {"ca": ""}, ())


def test_no_registrys_host_is_written_down_in_the_code() -> None:
    """Those that this machine's own clients fall back on stand in no file of the project."""
    way = presets.find(("npm", "pypi", "crates", "go", "debian"), os.environ, "/absent")
    hosts = [host.encode() for host in way.pins]
    assert hosts  # npm is here, or the CLI would not be
    argv = ["git", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(argv, capture_output=True, check=True).stdout.split(b"\0")
    assert b"README.md" in names
    texts = {name: (ROOT / name.decode()).read_bytes() for name in names if name}
    assert [(name, host) for name, text in texts.items() for host in hosts if host in text] == []
