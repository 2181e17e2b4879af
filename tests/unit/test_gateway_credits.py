"""The sealed gateway reads who paid from each answer of the API, and lets no request out then."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.unit.test_gateway_sealed import Api, tell

UNIFIED = "anthropic-ratelimit-unified-"
POST = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
RESET = 1_900_000_000
# As the API tells an ordinary subscription that has credits which do not pay.
INCLUDED = {
    "status": "allowed",
    "reset": f"{RESET}",
    "representative-claim": "five_hour",
    "5h-status": "allowed",
    "5h-reset": f"{RESET}",
    "overage-status": "allowed",
    "overage-reset": f"{RESET + 9}",
}
CREDITS = {**INCLUDED, "status": "rejected", "5h-status": "rejected", "overage-in-use": "true"}
NOT_INCLUDED = {
    "in use": CREDITS,
    "in use, of a model that has no allowance": {**INCLUDED, "overage-in-use": "true"},
    "used up, credits allowed": {**INCLUDED, "status": "rejected"},
    "used up, nothing of credits": {"status": "rejected"},
    "used up, credits refused": {"status": "rejected", "overage-status": "rejected"},
    "allowed, its window used up": {
        **INCLUDED,
        "5h-status": "rejected",
        "grace-status": "eligible",
        "grace-5h-utilization": "0",
    },
    "claim": {**INCLUDED, "representative-claim": "overage"},
    "claim not known": {**INCLUDED, "representative-claim": "nine_day"},
    "credits' status not known": {**INCLUDED, "overage-status": "granted"},
    "in-use not known": {**INCLUDED, "overage-in-use": "1"},
    "status not known": {**INCLUDED, "status": "maybe"},
    "said twice": {**INCLUDED, "Overage-In-Use": "false", "overage-in-use": "true"},
}
CERTAIN = [*[*NOT_INCLUDED][:3], "claim"]
ORDINARY = {
    "nothing told": {},
    "allowance": INCLUDED,
    "warning": {**INCLUDED, "status": "allowed_warning", "overage-status": "allowed_warning"},
    "credits off": {
        **INCLUDED, "overage-status": "rejected", "overage-disabled-reason": "out_of_credits",
        "overage-in-use": "false",
    },
    "grace": {**INCLUDED, "5h-status": "rejected", "grace-5h-utilization": "0.1"},
    "a model's own allowance": {
        **INCLUDED, "representative-claim": "seven_day_overage_included",
    },
}  # fmt: skip


@pytest.fixture
def api() -> Iterator[Api]:
    """A stand-in of this test's own."""
    made = Api()
    yield made
    made.listener.close()


def gateway(folder: str, api: Api, **more: object) -> Gateway:
    """A sealed gateway before that stand-in, with its token."""
    place = {"host": "127.0.0.1", "port": api.port, "tls": False, **more}
    made = Gateway(Path(folder), allow=["api.anthropic.com"], api=place)
    tell(made)
    return made


def answers(api: Api, headers: dict[str, str], status: str = "200 OK") -> None:
    """Let the stand-in answer with these limits."""
    lines = "".join(f"{UNIFIED}{name}: {value}\r\n" for name, value in headers.items())
    api.pieces = [f"HTTP/1.1 {status}\r\n{lines}Content-Length: 2\r\n\r\nok".encode()]


@pytest.mark.parametrize("name", NOT_INCLUDED)
def test_no_further_request_goes_out(api: Api, name: str) -> None:
    """The answer itself still comes; the next request meets a refusal that is not tried again."""
    answers(api, NOT_INCLUDED[name])
    with tempfile.TemporaryDirectory() as folder:
        made = gateway(folder, api)
        try:
            assert made.ask(POST, made.api).endswith(b"ok")
            refused = made.ask(POST, made.api)
            told = made.wait_for(lambda one: one["decision"] == "credits")
        finally:
            made.close()
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"x-should-retry: false" in refused
    assert len(api.got) == 1
    assert told["certain"] is (name in CERTAIN)
    if NOT_INCLUDED[name].get("5h-status") == "rejected":
        assert told["back_at"] == RESET


@pytest.mark.parametrize("name", ORDINARY)
def test_the_allowances_answers_stop_nothing(api: Api, name: str) -> None:
    """The control: credits that are there, warnings, and an API that tells nothing."""
    answers(api, ORDINARY[name])
    with tempfile.TemporaryDirectory() as folder:
        made = gateway(folder, api)
        try:
            assert [made.ask(POST, made.api)[:12] for _ in range(2)] == [b"HTTP/1.1 200"] * 2
        finally:
            made.close()
    assert len(api.got) == 2
    assert not [one for one in made.said if one["decision"] == "credits"]


def test_a_refused_request_was_not_paid(api: Api) -> None:
    """A 429 bills nobody, whatever its headers say; the next request goes out."""
    answers(api, {**CREDITS, "overage-status": "rejected"}, "429 Too Many Requests")
    with tempfile.TemporaryDirectory() as folder:
        made = gateway(folder, api)
        try:
            for _ in range(2):
                assert made.ask(POST, made.api).startswith(b"HTTP/1.1 429 ")
        finally:
            made.close()
    assert len(api.got) == 2


def test_credits_go_through_where_they_are_allowed(api: Api) -> None:
    """It is said once, and every request goes out."""
    answers(api, CREDITS)
    with tempfile.TemporaryDirectory() as folder:
        made = gateway(folder, api, credits=True)
        try:
            assert [made.ask(POST, made.api)[:12] for _ in range(3)] == [b"HTTP/1.1 200"] * 3
        finally:
            made.close()
    assert len(api.got) == 3


def test_requests_that_are_not_whole_yet_never_become_so(api: Api) -> None:
    """Beside one that is paid for stand a connection that is kept, and a request half sent."""
    answers(api, CREDITS)
    half = POST.replace(b"Content-Length: 2", b"Content-Length: 9")
    with tempfile.TemporaryDirectory() as folder:
        made = gateway(folder, api)
        try:
            with socket.socket(socket.AF_UNIX) as begun, socket.socket(socket.AF_UNIX) as kept:
                for client in (begun, kept):
                    client.settimeout(120)
                    client.connect(str(made.api))
                begun.sendall(half)
                made.wait_for(lambda one: one["decision"] == "allowed")
                assert made.ask(POST, made.api).endswith(b"ok")
                begun.sendall(b"1234567")
                kept.sendall(POST)
                assert begun.recv(4096).startswith(b"HTTP/1.1 429 ")
                assert kept.recv(4096).startswith(b"HTTP/1.1 429 ")
        finally:
            made.close()
    assert [got for got in api.got if got.endswith(b"{}1234567")] == []
    assert sum(got.endswith(b"{}") and b"content-length: 2" in got.lower() for got in api.got) == 1
