"""What must never be shown is taken out of every text."""

from __future__ import annotations

import copy
import json
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.claude import redact as module
from plandock.claude.redact import MARK, Secret, redact, redact_tokens, register


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(module, "_known", set())


LOOKS = {
    "access token": "sk-ant-oat01-" + "Ab3_-" * 16,
    "refresh token": "sk-ant-ort01-" + "Zy9" * 20,
    "API key": "sk-ant-api03-" + "k" * 40,
    "short Anthropic key": "sk-ant-x1",
    "other sk- key": "sk-proj-" + "q" * 30,
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitHub fine-grained token": "github_pat_" + "a1B2_" * 9,
    "GitLab token": "glpat-" + "x" * 20,
    "npm token": "npm_" + "a1B2" * 9,
    "AWS key id": "AKIA" + "ABCD1234" * 2,
    "Slack token": "xoxb-123456789-abcdef",
    "Google key": "AIza" + "x" * 35,
}


@pytest.mark.parametrize("kind", LOOKS)
def test_what_looks_like_a_token_is_replaced(kind):
    """Each known shape of token disappears, and the words around it stay."""
    secret = LOOKS[kind]
    shown = redact(f"could not use {secret}, try again")
    assert secret not in shown
    assert shown == f"could not use {MARK}, try again"


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("x-api-key: hunter2hunter2", "hunter2hunter2"),
        ('{"refreshToken":"hunter2hunter2"}', "hunter2hunter2"),
        ('{\\"accessToken\\": \\"hunter2hunter2\\"}', "hunter2hunter2"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ("fatal: https://me:hunter2@example.org/x.git", "hunter2"),
        ("https://averylongtokenwithoutcolon@example.org/", "averylongtokenwithoutcolon"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----", "MIIB"),
    ],
)
def test_a_value_is_known_by_what_stands_before_it(text, gone):
    """Header values, JSON members, passwords in addresses and key blocks are replaced."""
    assert gone not in redact(text)
    assert MARK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "the run r7k2 began at 2026-01-02T03:04:05Z",
        "ssh://git@example.org/repo.git",
        "commit 7309189164268fee62508b286015f2fc8af114c3",
        "/home/me/task-list/risk-assessment-of-the-quarter.md",
        "usage: input_tokens=1200 output_tokens=30",
    ],
)
def test_ordinary_words_stay(text):
    """Dates, object names, paths and token counts are not touched."""
    assert redact(text) == text


def test_a_registered_secret_is_replaced_in_every_spelling():
    """A known value goes as it is, URL-quoted and as hex digits, whatever it looks like."""
    register("correct horse/battery")
    shown = redact("a correct horse/battery b correct%20horse%2Fbattery c "
                   + b"correct horse/battery".hex())  # fmt: skip
    assert shown == f"a {MARK} b {MARK} c {MARK}"


def test_a_short_value_is_not_registered():
    """A value of a few letters would blank out ordinary words."""
    register("max")
    assert redact("the maximum is max") == "the maximum is max"


def test_a_longer_secret_goes_before_its_part():
    """No tail of a secret is left over when its beginning is a secret too."""
    register("horsehorse")
    register("horsehorsebattery")
    assert redact("horsehorsebattery") == MARK


def test_a_secret_does_not_show_itself():
    """Printing, formatting, JSON and pickle give nothing away; copies stay the same."""
    secret = Secret("correct-horse-battery")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{[secret]}"):
        assert "horse" not in shown
    with pytest.raises(TypeError):
        json.dumps({"token": secret})
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) is secret
    assert secret.reveal() == "correct-horse-battery"
    assert secret == Secret("correct-horse-battery")
    assert secret != Secret("another-horse-battery")
    assert secret != "correct-horse-battery"


def test_making_a_secret_registers_it():
    """Once a Secret exists its value is taken out of every text."""
    Secret("correct-horse-battery")
    assert "horse" not in redact("error: correct-horse-battery was refused")


@given(st.text(max_size=300))
def test_any_text_goes_through(text):
    """Whatever the text, redacting it twice changes nothing more and no token shape is left."""
    once = redact(text)
    assert "sk-ant-" not in once.replace("sk-ant-" + MARK, "") or not any(
        c.isalnum() for c in once.split("sk-ant-", 1)[1][:1]
    )
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    ["eyJ" * 60_000, "://" * 60_000, "://" + "a" * 200_000, "token=" * 40_000, "bearer " * 30_000,
     "-----BEGIN PRIVATE KEY-----" * 8_000, "sk-" * 60_000, "password: " * 20_000],
)  # fmt: skip
def test_a_hostile_text_takes_no_long_time(text):
    """Two hundred thousand characters made to confuse a pattern are done in a moment.

    Steps that grow with the square of the length would take minutes (2e10 of them), so the bound
    leaves a slow machine its time.
    """
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 30.0


def test_what_is_kept_of_a_boxs_words_holds_no_token_and_stays_json():
    """Tokens of every kind go, whatever stands around them; everything else stays as it was."""
    tokens = ["sk-ant-oat01-" + "a-_B9" * 9, "sk-ant-ort01-" + "z" * 40]
    tokens.append("sk-ant-api03-" + "k" * 60)
    said = {
        "text": f'it is {tokens[0]}\n"{tokens[1]}"',
        "password": "kept as it is",
        "k": tokens[2],
    }
    kept = redact_tokens(json.dumps(said).encode())
    assert not [t for t in tokens if t.encode() in kept]
    read = json.loads(kept)
    assert read["password"] == "kept as it is"
    assert read["text"] == f'it is {MARK}\n"{MARK}"'
    assert (
        redact_tokens(b"\xff\x00 sk-ant- sk-ant-oat01-short")
        == b"\xff\x00 sk-ant- sk-ant-oat01-short"
    )
