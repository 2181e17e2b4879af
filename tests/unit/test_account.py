"""Whose a login is: what the CLI's files say, and which other login is the same one's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.account import (
    Account,
    Owner,
    Relation,
    account_of,
    parse_owner,
    read_owner,
    relate,
)
from plandock.claude.login import Login, parse_credentials
from plandock.claude.redact import Secret
from tests.support.signing_in import ANNA, BOB, TEAM


def login(token: str = "one", *, kind: Any = "file", plan: str = "max", **more: Any) -> Login:
    """A login with this token."""
    return Login(kind, Secret(f"sk-ant-oat01-{token}"), None, plan, (), **more)


def owner(account: dict[str, str] | None) -> Owner:
    """What a state file with this account says."""
    found = parse_owner(json.dumps({"oauthAccount": account}).encode())
    return found or Owner()


def of(account: dict[str, str] | None, token: str, **more: Any) -> Account:
    """The account of a login whose state file names this one."""
    return account_of(login(token, **more), owner(account))


UNCERTAIN = Owner(certain=False)
TORN = account_of(login("two"), UNCERTAIN)
ONLY_MAIL = {"emailAddress": "anna@example.org"}
NO_ORGANIZATION = {"accountUuid": ANNA["accountUuid"]}


@pytest.mark.parametrize(
    ("begun", "now", "relation"),
    [
        # A renewal: the same account names another token.
        (of(ANNA, "one"), of(ANNA, "two"), Relation.SAME),
        (of(ONLY_MAIL, "one"), of(ONLY_MAIL, "two"), Relation.SAME),
        (of(ANNA, "one", plan="pro"), of(ANNA, "two", plan="max"), Relation.SAME),
        # Another account, and the same one in another organisation: others pay.
        (of(ANNA, "one"), of(BOB, "two"), Relation.OTHER),
        (of(ANNA, "one"), of(TEAM, "two"), Relation.OTHER),
        (of(ONLY_MAIL, "one"), of({"emailAddress": "bob@example.org"}, "two"), Relation.OTHER),
        # The file beside it names another one for the very token: nothing is sure.
        (of(ANNA, "one"), of(BOB, "one"), Relation.OTHER),
        # Known and then not, not known and then known: only where the token says it.
        (of(ANNA, "one"), of(None, "one"), Relation.SAME),
        (of(ANNA, "one"), of(None, "two"), Relation.UNKNOWN),
        (of(None, "one"), of(ANNA, "one"), Relation.SAME),
        (of(None, "one"), of(ANNA, "two"), Relation.UNKNOWN),
        (of(ANNA, "one"), of(NO_ORGANIZATION, "two"), Relation.UNKNOWN),
        (of(NO_ORGANIZATION, "one"), of(NO_ORGANIZATION, "two"), Relation.SAME),
        # Never named: a renewal looks the same, and another plan does not.
        (of(None, "one"), of(None, "two"), Relation.SAME),
        (of(None, "one"), of(None, "two", plan=""), Relation.SAME),
        (of(None, "one"), of(None, "two", plan="pro"), Relation.OTHER),
        # A file that is half written, or two that contradict each other.
        (of(ANNA, "one"), TORN, Relation.UNKNOWN),
        (of(None, "one"), TORN, Relation.UNKNOWN),
        (of(ANNA, "two"), TORN, Relation.SAME),
        # A token alone names nobody: another one is another login.
        (of(None, "one", kind="setup-token"), of(None, "one", kind="setup-token"), Relation.SAME),
        (of(None, "one", kind="setup-token"), of(None, "two", kind="setup-token"), Relation.OTHER),
        (of(None, "one", kind="setup-token"), of(ANNA, "two"), Relation.OTHER),
        (of(ANNA, "one"), of(None, "two", kind="setup-token"), Relation.OTHER),
        (of(None, "one", kind="api-key"), of(None, "two", kind="api-key"), Relation.OTHER),
        (of(ANNA, "one"), of(ANNA, "two", kind="keychain"), Relation.SAME),
    ],
)  # fmt: skip
def test_only_what_is_known_to_be_the_same_is(
    begun: Account, now: Account, relation: Relation
) -> None:
    """Anything else is not billed unasked."""
    assert relate(begun, now) is relation


def test_the_account_beside_the_token_goes_before_the_state_file() -> None:
    """2.1.332 writes both in one step (read); the state file may be older or newer than that."""
    named = {"account": BOB["accountUuid"], "organization": BOB["organizationUuid"]}
    torn = account_of(login("two", **named), owner(ANNA))
    assert relate(of(ANNA, "one"), torn) is Relation.OTHER
    assert torn.email == ""
    whole = account_of(login("two", **named), UNCERTAIN)
    assert relate(of(BOB, "one"), whole) is Relation.SAME


def test_the_account_beside_the_token_is_read() -> None:
    """From the file, as from the Keychain."""
    held = {
        "accessToken": "sk-ant-oat01-one", "scopes": ["user:inference"],
        "accountUuid": ANNA["accountUuid"], "organizationUuid": ANNA["organizationUuid"],
    }  # fmt: skip
    found = parse_credentials(json.dumps({"claudeAiOauth": held}), kind="file", where="here")
    assert found is not None
    assert (found.account, found.organization) == (ANNA["accountUuid"], ANNA["organizationUuid"])
    assert "aaaaaaaa" not in json.dumps(found.box_file())


def test_nothing_whole_is_kept_or_shown() -> None:
    """Digests, the first characters, and a shortened address."""
    anna = of(ANNA, "one")
    kept = json.dumps(anna.to_record())
    for whole in (*ANNA.values(), "Anna", "sk-ant"):
        assert whole not in kept
    assert anna.words() == "A…@example.org (aaaaaaaa)"
    assert anna.words(of(TEAM, "one")) == "A…@example.org (aaaaaaaa) in organisation 0a0a0a0a"
    assert Account.from_record(json.loads(kept)) == anna


@pytest.mark.parametrize("record", [{}, {"kind": ""}, {"kind": 1}, {"kind": "host", "key": []}])
def test_a_record_that_is_none_is_no_account(record: dict[str, Any]) -> None:
    """It comes from a label of the engine, too."""
    assert Account.from_record(record) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", None),
        ('{"oauthAccount": null}', None),
        ('{"oauthAccount": {}}', None),
        ('{"oauthAccount": []}', UNCERTAIN),
        ('{"oauthAcc', UNCERTAIN),
        ("", UNCERTAIN),
        ("[]", UNCERTAIN),
        ('{"oauthAccount": {"accountUuid": 7, "emailAddress": "x"}}', None),
        ('{"oauthAccount": {"accountUuid": "a b", "emailAddress": "x@\\u001b"}}', None),
        (
            json.dumps({"oauthAccount": {**ANNA, "organizationUuid": "x" * 999}}),
            Owner(ANNA["accountUuid"], "", "A…@example.org"),
        ),
    ],
)
def test_any_state_file_names_somebody_or_nobody_or_is_uncertain(
    text: str, said: Owner | None
) -> None:
    """Half a file is not one without an account."""
    assert parse_owner(text.encode()) == said


def write(file: Path, account: dict[str, str] | None) -> None:
    """A state file with this account."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"oauthAccount": account} if account else {}))


def test_the_state_file_is_the_one_that_the_cli_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the home folder, or in the folder that CLAUDE_CONFIG_DIR names (measured: 2.1.197 and
    2.1.332 tell that account's e-mail in `auth status`)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    usual, own = tmp_path / ".claude", tmp_path / "own"
    write(tmp_path / ".claude.json", ANNA)
    write(own / ".claude.json", BOB)
    assert read_owner(usual, {}) == owner(ANNA)
    assert read_owner(own, {"CLAUDE_CONFIG_DIR": str(own)}) == owner(BOB)
    assert read_owner(own, {}) == owner(BOB)  # a supervisor that another shell has started
    assert read_owner(usual, {"CLAUDE_CONFIG_DIR": str(own)}) == owner(ANNA)
    assert read_owner(usual, {"CLAUDE_CONFIG_DIR": str(usual)}) == Owner()


def test_two_state_files_that_disagree_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of them counts differs between the versions (read)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = tmp_path / ".claude"
    write(usual / ".config.json", ANNA)
    assert read_owner(usual, {}) == owner(ANNA)
    write(tmp_path / ".claude.json", None)
    assert read_owner(usual, {}) == owner(ANNA)
    write(tmp_path / ".claude.json", ANNA)
    assert read_owner(usual, {}) == owner(ANNA)
    write(tmp_path / ".claude.json", BOB)
    assert not read_owner(usual, {}).certain
    (tmp_path / ".claude.json").unlink()
    (tmp_path / ".claude.json").mkdir()
    assert not read_owner(usual, {}).certain
    assert relate(of(ANNA, "two"), replace(TORN, kind="host")) is Relation.SAME
