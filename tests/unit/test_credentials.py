"""One usable login or one clear sentence, and never a refresh token."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plandock.claude import credentials
from plandock.claude.credentials import Login, Secret, find_login, parse_credentials, reread
from plandock.claude.login import PLACEHOLDER
from plandock.errors import CredentialsError

FAKE = str(Path(__file__).parents[1] / "fakes" / "security")
NOW = 1_800_000_000.0
ACCESS = "sk-ant-oat01-MADE-UP-" + "a" * 40
NEWER = "sk-ant-oat01-MADE-UP-" + "n" * 40
REFRESH = "sk-ant-ort01-MADE-UP-" + "r" * 40
SETUP = "sk-ant-oat01-MADE-UP-SETUP-" + "s" * 60


def oauth(**changes):
    """The contents of a login as Claude Code writes it; None takes a member out."""
    whole = {
        "accessToken": ACCESS,
        "refreshToken": REFRESH,
        "expiresAt": int((NOW + 8 * 3600) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
        "rateLimitTier": "default_claude_max_5x",
        "organizationUuid": "made-up-organisation",
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A throwaway home, and settings of plandock below it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / ".claude").mkdir()
    return tmp_path / ".claude"


@pytest.fixture
def put(folders):
    """Write Claude Code's file: an object, or the raw text."""

    def write(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (folders / ".credentials.json").write_text(text)

    return write


@pytest.fixture
def mac(keychain_file):
    """Environment of a Mac whose keychain holds what `mac.fill` puts there."""

    class Mac(dict):
        def fill(self, text, **rest):
            item = {"service": "Claude Code-credentials", "account": "tester", "secret": text}
            keychain_file.write_text(json.dumps({"items": [item], **rest}))

    return Mac(PLANDOCK_SECURITY=FAKE, USER="tester")


@pytest.fixture
def find(folders):
    """`find_login` at a fixed time."""

    def call(environ=None, **rest):
        return find_login(config_dir=folders, environ=environ or {}, now=lambda: NOW, **rest)

    return call


def test_the_file_is_read(put, find, folders):
    """The host's file gives token, end, plan and scopes."""
    put({"claudeAiOauth": oauth(), "mcpOAuth": {"x": 1}})
    login = find()
    assert (login.kind, login.subscription) == ("file", "max")
    assert login.token == Secret(ACCESS)
    assert login.remaining_s(NOW) == pytest.approx(8 * 3600)
    assert login.scopes == ("user:inference", "user:profile")
    assert login.where == str(folders / ".credentials.json")


def test_the_box_gets_no_refresh_token(put, find):
    """Only five members go in, whatever stands in the file."""
    put({"claudeAiOauth": oauth(inventedToken="made-up-secret"), "mcpOAuth": {"x": 1}})
    secrets = find().box_secrets()
    assert secrets == {
        "credentials": {
            "claudeAiOauth": {
                "accessToken": ACCESS,
                "expiresAt": int((NOW + 8 * 3600) * 1000),
                "scopes": ["user:inference", "user:profile"],
                "subscriptionType": "max",
                "rateLimitTier": "default_claude_max_5x",
            }
        }
    }
    assert REFRESH not in json.dumps(secrets)


def test_a_login_without_an_end_has_unknown_life(put, find):
    """Where nothing says when it ends, nothing is made up."""
    put({"claudeAiOauth": oauth(expiresAt=None, subscriptionType=None, rateLimitTier=None)})
    login = find()
    assert login.remaining_s(NOW) is None
    assert login.box_secrets()["credentials"]["claudeAiOauth"] == {
        "accessToken": ACCESS,
        "scopes": ["user:inference", "user:profile"],
    }


def test_a_login_does_not_show_its_token(put, find):
    """Neither `repr` nor a dump of the fields gives the token away."""
    put({"claudeAiOauth": oauth()})
    login = find()
    assert ACCESS not in repr(login)
    assert ACCESS not in str(dataclasses.asdict(login))


def test_nobody_logged_in_says_what_to_do(find):
    """Without any login the two ways to one are named."""
    with pytest.raises(CredentialsError, match="not logged in") as caught:
        find()
    assert "/login" in caught.value.hint
    assert "plandock login" in caught.value.hint
    assert caught.value.exit_code == 21


def test_a_token_in_the_environment_is_pointed_at(find):
    """A setup token that only the environment holds is not used, and its user is told how to."""
    with pytest.raises(CredentialsError) as caught:
        find({"CLAUDE_CODE_OAUTH_TOKEN": SETUP})
    assert "CLAUDE_CODE_OAUTH_TOKEN" in caught.value.hint
    assert SETUP not in caught.value.hint


@pytest.mark.parametrize("held", [{}, {"mcpOAuth": {"x": {}}}, {"claudeAiOauth": None}])
def test_a_file_without_a_login_counts_as_none(put, find, held):
    """Tokens of MCP servers alone are no login."""
    put(held)
    with pytest.raises(CredentialsError, match="not logged in"):
        find()


@pytest.mark.parametrize(
    ("left_s", "words"),
    [
        (-7200, "expired 2 h ago"),
        (-90, "expired 1 min ago"),
        (-86400 * 3, "expired 3 d ago"),
        (300, "good for 5 min more, 10 min are asked for"),
        (0, "expired 0 s ago"),
    ],
)
def test_too_little_life_says_how_much_and_what_to_do(put, find, left_s, words):
    """An expired or nearly expired login is refused, with the time and the way to renew it."""
    put({"claudeAiOauth": oauth(expiresAt=int((NOW + left_s) * 1000))})
    with pytest.raises(CredentialsError) as caught:
        find()
    assert words in caught.value.message
    assert "open `claude` once" in caught.value.hint


@pytest.mark.parametrize("scopes", [None, [], ["user:profile"], ["user:inference\n"]])
def test_a_login_that_may_not_ask_the_model_is_refused(put, find, scopes):
    """The CLI itself says "not logged in" then (measured), so the run would not start."""
    put({"claudeAiOauth": oauth(scopes=scopes)})
    with pytest.raises(CredentialsError, match="user:inference"):
        find()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '"text"',
        "null",
        "{" * 100_000,
        "[" * 100_000,
        '{"claudeAiOauth": []}',
        '{"claudeAiOauth": "x"}',
        '{"claudeAiOauth": ' + "9" * 5000 + "}",
        {"claudeAiOauth": oauth(accessToken=17)},
        {"claudeAiOauth": oauth(accessToken="")},
        {"claudeAiOauth": oauth(accessToken="two words")},
        {"claudeAiOauth": oauth(accessToken="line\nX-Header: y")},
        {"claudeAiOauth": oauth(accessToken="\ud800" * 20)},
        {"claudeAiOauth": oauth(expiresAt="soon")},
        {"claudeAiOauth": oauth(expiresAt=True)},
        {"claudeAiOauth": oauth(expiresAt=float("nan"))},
        {"claudeAiOauth": oauth(expiresAt=float("inf"))},
        {"claudeAiOauth": oauth(expiresAt=10**400)},
        {"claudeAiOauth": oauth(expiresAt=-1)},
        {"claudeAiOauth": oauth(scopes="user:inference")},
        {"claudeAiOauth": oauth(scopes=[["user:inference"]])},
    ],
    ids=lambda x: str(x)[:40].encode("ascii", "replace").decode(),
)
def test_a_malformed_file_is_one_clear_error(put, find, content):
    """Broken JSON and wrong types are an error of code 21 that repeats no token."""
    put(content)
    with pytest.raises(CredentialsError) as caught:
        find()
    assert caught.value.hint
    assert ACCESS not in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_login_or_an_error(data):
    """Whatever the bytes, the answer is a login, none, or a CredentialsError."""
    try:
        found = parse_credentials(data, kind="file", where="the file")
    except CredentialsError:
        return
    assert found is None or isinstance(found, Login)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "accessToken": st.just(ACCESS) | json_values,
            "expiresAt": st.integers(0, 10**14) | json_values,
            "scopes": st.just(["user:inference"]) | json_values,
            "subscriptionType": st.just("pro") | json_values,
            "rateLimitTier": json_values,
            "refreshToken": st.just(REFRESH),
        },
    )
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_members_are_a_login_or_an_error(held):
    """Any mix of types is survived, and what comes through is fit for the box."""
    try:
        found = parse_credentials(
            json.dumps({"claudeAiOauth": held}), kind="file", where="the file"
        )
    except CredentialsError:
        return
    assert found is not None
    inner = json.loads(json.dumps(found.box_secrets()))["credentials"]["claudeAiOauth"]
    assert set(inner) <= {
        "accessToken",
        "expiresAt",
        "scopes",
        "subscriptionType",
        "rateLimitTier",
    }
    assert inner["accessToken"] == held["accessToken"]
    assert "user:inference" in inner["scopes"]


def test_a_fifo_or_folder_or_loop_does_not_hang(folders, find):
    """What is no ordinary file is refused at once."""
    file = folders / ".credentials.json"
    os.mkfifo(file)
    with pytest.raises(CredentialsError, match="not a regular file"):
        find()
    file.unlink()
    file.mkdir()
    with pytest.raises(CredentialsError, match="not a regular file"):
        find()
    file.rmdir()
    file.symlink_to(file)
    with pytest.raises(CredentialsError, match="loop of symbolic links"):
        find()


def test_a_huge_file_is_not_read(folders, find):
    """A sparse terabyte costs nothing and is refused."""
    with open(folders / ".credentials.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CredentialsError, match="larger than"):
        find()


def test_a_link_is_followed(folders, find, tmp_path):
    """Those who keep their settings elsewhere and link them are served."""
    (tmp_path / "elsewhere.json").write_text(json.dumps({"claudeAiOauth": oauth()}))
    (folders / ".credentials.json").symlink_to(tmp_path / "elsewhere.json")
    assert find().kind == "file"


# The stored setup token


def test_a_setup_token_is_stored_for_its_owner_alone(find, tmp_path):
    """It lies in plandock's own folder, 0600, and goes before the host's login."""
    file = credentials.store_setup_token(f"  {SETUP[:30]}\n  {SETUP[30:]}\n")
    assert file == tmp_path / "config/plandock/setup-token"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [x.name for x in file.parent.iterdir()] == ["setup-token"]
    login = find()
    assert (login.kind, login.expires_at) == ("setup-token", None)
    assert login.box_secrets() == {"oauth_token": SETUP}


def test_storing_again_replaces_the_token(find):
    """The second token is the one that counts."""
    credentials.store_setup_token(SETUP)
    credentials.store_setup_token(SETUP + "2")
    assert find().token.reveal() == SETUP + "2"


@pytest.mark.parametrize(
    "token", ["", "x", "sk-ant-api03-" + "k" * 60, REFRESH, SETUP + "!", "sk-ant-oat01-", "ü" * 90]
)
def test_anything_else_is_not_stored(token):
    """API keys, refresh tokens and scraps are refused, and not repeated in the message."""
    with pytest.raises(CredentialsError) as caught:
        credentials.store_setup_token(token)
    assert "claude setup-token" in caught.value.hint
    assert not token or len(token) < 5 or token not in caught.value.message
    assert not credentials.setup_token_file().exists()


def test_forgetting_removes_the_token(find):
    """After it the token is gone, and a second time says so."""
    credentials.store_setup_token(SETUP)
    assert credentials.forget_setup_token() is True
    assert credentials.forget_setup_token() is False
    with pytest.raises(CredentialsError, match="no setup token"):
        find(mode="token")


def test_a_token_that_others_can_read_is_refused(find):
    """As ssh does with a key: say how to put it right."""
    file = credentials.store_setup_token(SETUP)
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="open to other users") as caught:
        find()
    assert caught.value.hint == f"chmod 600 {file}"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"sk-ant-api03-" + b"k" * 60])
def test_a_damaged_token_file_is_an_error(find, content):
    """It is not passed over: the user chose it."""
    credentials.store_setup_token(SETUP).write_bytes(content)
    with pytest.raises(CredentialsError):
        find()


# Modes and ways of paying


def test_each_mode_takes_only_its_own(put, find):
    """`token` never takes the host's login, `host` never the stored token."""
    put({"claudeAiOauth": oauth()})
    with pytest.raises(CredentialsError, match="no setup token"):
        find(mode="token")
    credentials.store_setup_token(SETUP)
    assert find(mode="host").kind == "file"
    assert find(mode="token").kind == "setup-token"


def test_a_login_kept_in_the_engine_is_not_looked_for_on_this_machine(put, find):
    """`box` never quietly becomes the host's own login."""
    put({"claudeAiOauth": oauth()})
    with pytest.raises(CredentialsError, match="not on this machine"):
        find(mode="box")


def test_a_sealed_box_gets_a_placeholder_in_the_tokens_place(put, find):
    """Same login, same plan; what would go into the box holds no token (positive control: host)."""
    put({"claudeAiOauth": oauth()})
    login = find(mode="sealed")
    open_file = json.dumps(find(mode="host").box_file())
    sealed_file = login.box_file(sealed=True)
    assert login.token.reveal() in open_file
    assert login.token.reveal() not in json.dumps(sealed_file)
    assert sealed_file["claudeAiOauth"]["accessToken"] == PLACEHOLDER
    assert "refreshToken" not in json.dumps([open_file, sealed_file])
    assert sealed_file["claudeAiOauth"]["scopes"] == list(login.scopes)


def test_a_sealed_setup_token_is_a_placeholder_too(find):
    """The year-long token is the one that an agent would most like to have."""
    credentials.store_setup_token(SETUP)
    login = find(mode="sealed")
    assert login.kind == "setup-token"
    assert SETUP in json.dumps(login.box_file())
    assert SETUP not in json.dumps(login.box_file(sealed=True))


def test_sealed_and_an_api_key_exclude_each_other(find):
    """Sealed promises that no key is used, so the explicit key is refused and named."""
    key = "sk-ant-api03-MADE-UP-" + "k" * 40
    with pytest.raises(CredentialsError, match="sealed"):
        find({"ANTHROPIC_API_KEY": key}, mode="sealed", billing="api-key")


def test_an_api_key_only_on_an_explicit_setting(put, find):
    """With a key in the environment a subscription run still takes the login."""
    key = "sk-ant-api03-MADE-UP-" + "k" * 40
    put({"claudeAiOauth": oauth()})
    assert find({"ANTHROPIC_API_KEY": key}).kind == "file"
    login = find({"ANTHROPIC_API_KEY": key}, billing="api-key")
    assert (login.kind, login.box_secrets()) == ("api-key", {"api_key": key})


@pytest.mark.parametrize("environ", [{}, {"ANTHROPIC_API_KEY": " "}, {"ANTHROPIC_API_KEY": "a\nb"}])
def test_api_key_billing_never_falls_back_to_the_login(put, find, environ):
    """Without a usable key there is an error, not another way of paying."""
    put({"claudeAiOauth": oauth()})
    with pytest.raises(CredentialsError, match="ANTHROPIC_API_KEY"):
        find(environ, billing="api-key")


def test_an_unknown_way_of_paying_is_refused(find):
    """A word that is not known is not read as the subscription."""
    with pytest.raises(CredentialsError, match="not known"):
        find(billing="free")


# The Keychain


def test_the_keychain_goes_before_the_file(put, find, mac):
    """On a Mac the Keychain's item is the login."""
    put({"claudeAiOauth": oauth(accessToken=NEWER)})
    mac.fill(json.dumps({"claudeAiOauth": oauth()}))
    login = find(mac)
    assert (login.kind, login.token.reveal()) == ("keychain", ACCESS)
    assert REFRESH not in json.dumps(login.box_secrets())


@pytest.mark.parametrize("trouble", ["locked", "expired", "broken", "empty"])
def test_the_file_stands_in_for_the_keychain(put, find, mac, trouble):
    """A good file is used where the Keychain is locked, or its item is old or broken."""
    put({"claudeAiOauth": oauth(accessToken=NEWER)})
    text = {"expired": json.dumps({"claudeAiOauth": oauth(expiresAt=1000)}), "broken": "{"}
    mac.fill(text.get(trouble, "{}"), locked=trouble == "locked")
    login = find(mac)
    assert (login.kind, login.token.reveal()) == ("file", NEWER)


def test_a_locked_keychain_without_a_file_says_so(find, mac):
    """It is not reported as "not logged in"."""
    mac.fill("{}", locked=True)
    with pytest.raises(CredentialsError, match="locked") as caught:
        find(mac)
    assert "security unlock-keychain" in caught.value.hint


# A renewed login


def test_a_renewed_login_is_found(put, find, folders):
    """Once the host has renewed its token, rereading gives the new one, and only then."""
    put({"claudeAiOauth": oauth()})
    login = find()

    def again():
        return reread(login, config_dir=folders, environ={}, now=lambda: NOW)

    assert again() is None
    put({"claudeAiOauth": oauth(accessToken=NEWER)})
    found = again()
    assert found is not None
    assert found.token.reveal() == NEWER
    for content in ("{", "{}", {"claudeAiOauth": oauth(accessToken=NEWER, expiresAt=1)}):
        put(content)
        assert again() is None


def test_rereading_keeps_to_the_kind_of_login(put, find, folders):
    """A host's login is not replaced by a stored token, nor an API key by anything."""
    put({"claudeAiOauth": oauth()})
    login = find()
    credentials.store_setup_token(SETUP)
    assert reread(login, config_dir=folders, environ={}, now=lambda: NOW) is None
    stored = find(mode="token")
    credentials.store_setup_token(SETUP + "2")
    found = reread(stored, config_dir=folders, environ={}, now=lambda: NOW)
    assert found is not None
    assert found.token.reveal() == SETUP + "2"
    environ = {"ANTHROPIC_API_KEY": "sk-ant-api03-MADE-UP"}
    key = find(environ, billing="api-key")
    assert reread(key, config_dir=folders, environ=environ) is None
