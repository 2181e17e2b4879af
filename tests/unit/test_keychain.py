"""The Keychain is asked as Claude Code fills it, and every refusal has a next step."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from plandock import proc
from plandock.claude import keychain
from plandock.claude.keychain import read_keychain
from plandock.errors import CredentialsError

FAKE = str(Path(__file__).parents[1] / "fakes" / "security")
LOGIN = json.dumps({"claudeAiOauth": {"accessToken": "made-up-token"}})
MCP_ONLY = json.dumps({"mcpOAuth": {"server": {"accessToken": "made-up-mcp"}}})
NEW, OLD = keychain.LABELS


@pytest.fixture
def store(tmp_path, monkeypatch, keychain_file):
    """Fill the stand-in's keychain: `store(*(service, account, secret), locked=…)`."""
    monkeypatch.setenv("FAKE_KEYCHAIN_LOG", str(tmp_path / "calls"))

    def fill(*items, **rest):
        known = [dict(zip(("service", "account", "secret", "refuse"), x, strict=False))
                 for x in items]  # fmt: skip
        keychain_file.write_text(json.dumps({"items": known, **rest}))

    fill.calls = lambda: [  # type: ignore[attr-defined]
        json.loads(x) for x in (tmp_path / "calls").read_text().splitlines()
    ]
    return fill


def ask(account="tester", config_dir=None, **rest):
    """Read the stand-in's keychain."""
    return read_keychain(account=account, config_dir=config_dir, security=FAKE, **rest)


@pytest.mark.parametrize("label", [NEW, OLD])
def test_both_labels_are_found(store, label):
    """A login under today's label and one under the older label are both read."""
    store((label, "tester", LOGIN))
    assert ask() == LOGIN


def test_the_newer_label_goes_first(store):
    """Where both are there, today's label counts."""
    store((OLD, "tester", '{"claudeAiOauth":{"accessToken":"old"}}'), (NEW, "tester", LOGIN))
    assert ask() == LOGIN


def test_no_item_is_no_error(store):
    """An empty keychain is an ordinary outcome: nobody is logged in."""
    store()
    assert ask() is None


@pytest.mark.parametrize("code", [37, 50])
def test_an_account_without_a_keychain_has_no_item(store, code):
    """A machine account without a login keychain is like one without the item."""
    store((NEW, "tester", LOGIN), refuse=code)
    assert ask() is None


def test_another_account_is_not_asked(store):
    """An item of the same service under another account is not taken."""
    store((NEW, "somebody-else", LOGIN))
    assert ask() is None
    assert all(call[call.index("-a") + 1] == "tester" for call in store.calls())


def test_an_item_with_mcp_tokens_only_is_passed_over(store):
    """Tokens of MCP servers are no login; the older label is tried after them."""
    store((NEW, "tester", MCP_ONLY), (OLD, "tester", LOGIN))
    assert ask() == LOGIN
    store((NEW, "tester", MCP_ONLY))
    assert ask() is None


def test_the_api_key_of_a_console_login_is_passed_over(store):
    """Newer versions keep a Console login's API key under the plain label: never taken."""
    store((OLD, "tester", "sk-ant-api03-made-up"))
    assert ask() is None


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"locked": True}, "security unlock-keychain"),
        ({"refuse": 36}, "security unlock-keychain"),
        ({"refuse": 51}, "allow"),
        ({"refuse": 128}, "allow"),
        ({"refuse": 7}, "unlock"),
    ],
)
def test_a_refusal_says_what_to_do(store, state, words):
    """A locked keychain, a wrong password and a click on Deny each name the next step."""
    store((NEW, "tester", LOGIN), **state)
    with pytest.raises(CredentialsError) as caught:
        ask()
    assert words in caught.value.hint
    assert caught.value.exit_code == 21


def test_an_empty_answer_counts_as_locked(store):
    """Over ssh the real program may print nothing and exit with 0."""
    store((NEW, "tester", ""))
    with pytest.raises(CredentialsError, match="empty answer"):
        ask()


def test_a_dialog_nobody_answers_is_given_up(store):
    """A program that waits for a click is not waited for without end."""
    store((NEW, "tester", LOGIN), sleep_s=600)
    with pytest.raises(CredentialsError, match="did not answer"):
        ask(timeout_s=0.3)


def test_a_missing_program_is_an_ordinary_error():
    """Where `security` is not there the message says so."""
    with pytest.raises(CredentialsError, match="not found"):
        read_keychain(account="tester", config_dir=None, security="/nonexistent/security")


@pytest.mark.parametrize("name", ["Zoë\n", "tab\there", "日本"])
def test_hex_digits_are_decoded(store, name):
    """The real program prints hex when a secret has a character beyond plain ASCII."""
    text = json.dumps({"claudeAiOauth": {"accessToken": "t", "name": name}}, ensure_ascii=False)
    text += "\n"
    store((NEW, "tester", text))
    assert proc.run([FAKE, "find-generic-password", "-s", NEW, "-a", "tester", "-w"]).text == (
        text.encode().hex() + "\n"
    )
    assert ask() == text.strip()


def test_broken_json_is_handed_to_the_caller(store):
    """A cut-off item is not silently taken for "not logged in"."""
    store((NEW, "tester", LOGIN[:-3]))
    assert ask() == LOGIN[:-3]


def test_an_own_folder_has_its_own_item(store, tmp_path):
    """With CLAUDE_CONFIG_DIR the service ends in the folder's hash, and no other is taken."""
    folder = str(tmp_path / "other")
    suffix = hashlib.sha256(folder.encode()).hexdigest()[:8]
    store((NEW, "tester", '{"claudeAiOauth":{"accessToken":"wrong login"}}'))
    assert ask(config_dir=folder) is None
    store((NEW, "tester", '{"claudeAiOauth":{}}'), (f"{NEW}-{suffix}", "tester", LOGIN))
    assert ask(config_dir=folder) == LOGIN


def test_composed_and_decomposed_names_are_one_folder():
    """The CLI hashes the folder's name in composed form (NFC)."""
    assert keychain.labels("/Users/zoe\u0308") == keychain.labels("/Users/zo\u00eb")


def test_no_secret_is_on_a_command_line(store):
    """Every call has label and account, and nothing of what was read."""
    store((NEW, "tester", MCP_ONLY), (OLD, "tester", LOGIN))
    ask()
    assert [call[:1] + call[-1:] for call in store.calls()] == [["find-generic-password", "-w"]] * 2
    assert "made-up" not in json.dumps(store.calls())


@pytest.mark.parametrize(
    ("user", "account"),
    [("zoe", "zoe"), ("a.b_c-1", "a.b_c-1"), ("with space", "claude-code-user"),
     ("-w", "-w"), ("Zoë", "claude-code-user")],
)  # fmt: skip
def test_the_account_is_the_one_that_the_cli_uses(user, account):
    """$USER, and a fixed name for what the CLI does not take for one."""
    assert keychain.account_name({"USER": user}) == account


def test_the_account_falls_back_to_the_password_database():
    """Without $USER the system's own name counts."""
    assert keychain.account_name({}) != ""


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, None),
        ({"CLAUDE_CONFIG_DIR": ""}, None),
        ({"CLAUDE_CONFIG_DIR": "/c"}, "/c"),
        ({"CLAUDE_CONFIG_DIR": "/c", "CLAUDE_SECURESTORAGE_CONFIG_DIR": ""}, None),
        ({"CLAUDE_CONFIG_DIR": "/c", "CLAUDE_SECURESTORAGE_CONFIG_DIR": "/d"}, "/d"),
    ],
)
def test_the_folder_in_the_name_is_the_one_that_the_cli_uses(environ, folder):
    """CLAUDE_SECURESTORAGE_CONFIG_DIR goes before CLAUDE_CONFIG_DIR, as in the CLI."""
    assert keychain.own_config_dir(environ) == folder


def test_only_macos_has_a_keychain(monkeypatch):
    """Elsewhere none is consulted, unless the user names a program."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert keychain.security_program({}) is None
    assert keychain.security_program({"PLANDOCK_SECURITY": "/x"}) == "/x"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keychain.security_program({}) == "/usr/bin/security"


def test_the_stand_in_stores_and_deletes(store):
    """The fake behaves as the real one with a duplicate, an update, a deletion and nothing."""
    store()
    words = ["-s", NEW, "-a", "tester"]

    def call(*argv):
        done = proc.run([FAKE, *argv], check=False)
        return done.returncode, done.text

    assert call("add-generic-password", *words, "-w", "made-up") == (0, "")
    assert call("add-generic-password", *words, "-w", "made-up")[0] == 45
    assert call("add-generic-password", "-U", *words, "-X", b"newer".hex()) == (0, "")
    assert call("find-generic-password", *words, "-w") == (0, "newer\n")
    assert call("delete-generic-password", *words)[0] == 0
    assert call("find-generic-password", *words, "-w") == (44, "")
    assert call("find-generic-password", "-Z")[0] == 2
