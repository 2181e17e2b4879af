"""The billing guard in the box: who may pay, and the gate that holds requests until it is known.

The steward and its relay are loaded as they lie in the image, from their files.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import plandock

INSIDE = Path(plandock.__file__).parent / "box" / "inside"
LOGIN = {"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "firstParty"}


@pytest.fixture
def steward(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The steward's module, loaded by its path."""
    # In the image one folder holds what runs in any container.
    others = [str(INSIDE.parents[1] / part / "inside") for part in ("settings", "workspace")]
    monkeypatch.setattr(sys, "path", [*sys.path, *others])
    spec = importlib.util.spec_from_file_location("steward_of_the_box", INSIDE / "steward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("relay", "harvest", "leftovers", "payer", "repository_settings", "words"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {**LOGIN, "loggedIn": False},
        {**LOGIN, "loggedIn": "yes"},
        {**LOGIN, "authMethod": "api_key"},
        {**LOGIN, "authMethod": "api_key_helper"},
        {**LOGIN, "apiProvider": "bedrock"},
        {**LOGIN, "apiKeySource": "ANTHROPIC_API_KEY"},
    ],
)
def test_a_status_that_is_not_plainly_the_login_starts_nothing(
    steward: ModuleType, told: Any
) -> None:
    """What cannot be understood counts as per-token billing; the login itself is let through."""
    assert not steward.payer.pays_as_wished(told, "subscription")
    assert steward.payer.pays_as_wished(LOGIN, "subscription")


@pytest.mark.parametrize("source", ["ANTHROPIC_API_KEY", "apiKeyHelper", "", None, "None"])
def test_an_init_message_with_a_keys_source_ends_the_run(
    steward: ModuleType, source: str | None
) -> None:
    """Only `apiKeySource: none` lets a subscription's run go on."""
    assert not steward.payer.says_as_wished({"apiKeySource": source}, "subscription")
    assert not steward.payer.says_as_wished({}, "subscription")
    assert steward.payer.says_as_wished({"apiKeySource": "none"}, "subscription")


@pytest.mark.parametrize("mode", ["default", "plan", "acceptEdits", "", None, True])
def test_an_init_message_with_another_mode_ends_the_run(steward: ModuleType, mode: object) -> None:
    """Only the mode without questions lets a run go on, and a message without one does not."""
    assert not steward.payer.asks_nobody({"permissionMode": mode})
    assert not steward.payer.asks_nobody({})
    assert steward.payer.asks_nobody({"permissionMode": "bypassPermissions"})


def test_a_shut_gate_holds_a_request_back_until_it_opens(steward: ModuleType) -> None:
    """No byte reaches the gateway's socket while the gate is shut, and all of them afterwards."""
    relay = steward.relay_module.Relay()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as gateway:
        place = f"{folder}/proxy.sock"
        gateway.bind(place)
        gateway.listen()
        relay.listen(port, place)
        relay.gate.clear()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST /v1/messages")
            carried, _ = gateway.accept()
            with carried:
                carried.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    carried.recv(100)
                threading.Timer(0.1, relay.gate.set).start()
                carried.settimeout(120)
                assert carried.recv(100) == b"POST /v1/messages"


def test_a_cli_that_hangs_after_its_result_is_ended(
    steward: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its work is done; neither its life nor its open output holds the run up."""
    monkeypatch.setattr(steward, "END_S", 0.2)
    made = steward.Steward()
    program = f"print({json.dumps({'type': 'result'})!r}, flush=True); import time; time.sleep(600)"
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made.cli:
        made.follow()
    assert made.seen_result
    assert made.cli.returncode < 0
