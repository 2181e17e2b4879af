"""Nothing that is billed per token, or not known, passes for a subscription.

`data/auth_status.json` holds what the real CLI printed for `claude auth status`, what it said in
its init message, and which headers its request carried, for both versions, with made-up tokens.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.claude import billing
from plandock.claude.billing import find_culprits, judge_auth_status, judge_init

MEASURED = json.loads((Path(__file__).parent / "data" / "auth_status.json").read_text())

PAID_BY_SUBSCRIPTION = {
    "file login",
    "file login without refresh token",
    "file login expired",
    "file login without subscription",
    "env oauth token",
}
NOT_SEEN_BY_STATUS = {
    # The status knows nothing of a project's env block, nor of headers.
    "settings env key project",
    "settings env auth token project",
    "custom headers",
}


def measured(*cases):
    """The measured rows of these cases (all without any), as test parameters."""
    rows = [x for x in MEASURED if not cases or x["case"] in cases]
    return [pytest.param(x, id=f"{x['cli']}-{x['case']}") for x in rows]


def init(source):
    """An init message as the CLI begins with."""
    return {"type": "system", "subtype": "init", "apiKeySource": source}


@pytest.mark.parametrize("row", measured())
def test_the_real_answers_are_judged_right(row):
    """A real status is well only where the real request carried the subscription's token."""
    kind = "setup-token" if row["case"] == "env oauth token" else "file"
    verdict = judge_auth_status(row["status"], kind=kind)
    assert verdict.ok is (row["case"] in PAID_BY_SUBSCRIPTION | NOT_SEEN_BY_STATUS)
    assert bool(verdict.culprit) is not verdict.ok
    if "x-api-key" in row["headers_sent"] and row["case"] not in NOT_SEEN_BY_STATUS:
        assert verdict.source == "api-key"


@pytest.mark.parametrize("row", measured())
def test_the_real_first_message_is_judged_right(row):
    """A key that the CLI names in its first message is never well."""
    verdict = judge_init(init(row["init_api_key_source"]))
    assert verdict.ok is (row["init_api_key_source"] == "none")
    if row["case"] == "settings env key project":
        assert not verdict.ok  # the one that the status does not see


SETTINGS_OF = {
    "settings env auth token project": {"env": {"ANTHROPIC_AUTH_TOKEN": "x"}},
    "custom headers": {"env": {"ANTHROPIC_CUSTOM_HEADERS": "x-api-key: abc"}},
    "settings env bedrock project": {"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}},
}


@pytest.mark.parametrize("row", measured(*SETTINGS_OF))
def test_what_neither_answer_shows_is_found_in_the_files(row, tmp_path):
    """The first message calls these "none"; the scan of the settings is what finds them."""
    assert judge_init(init(row["init_api_key_source"])).ok
    write(tmp_path / "repo/.claude/settings.json", SETTINGS_OF[row["case"]])
    assert [x.decisive for x in scan(tmp_path)] == [True]


@pytest.mark.parametrize("row", measured("ANTHROPIC_AUTH_TOKEN beside file"))
def test_a_token_variable_over_a_file_login_is_noticed(row):
    """The status says "oauth_token" where "claude.ai" was to be expected."""
    assert not judge_auth_status(row["status"], kind="file").ok
    assert not judge_auth_status(row["status"], kind="keychain").ok


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (case, words)
        for name, words in {
            "ANTHROPIC_API_KEY": "ANTHROPIC_API_KEY is set",
            "apiKeyHelper project beside file": "apiKeyHelper is set",
            "bedrock": "bedrock",
            "primaryApiKey": "Console",
            "not logged in": "not logged in",
        }.items()
        for case in [x for x in MEASURED if x["case"] == name]
    ],
)
def test_the_culprit_is_named(row, words):
    """The sentence says what to look for."""
    assert words in judge_auth_status(row["status"]).culprit


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {},
        {"loggedIn": True},
        {"loggedIn": True, "authMethod": "claude.ai"},
        {"loggedIn": "true", "authMethod": "claude.ai", "apiProvider": "firstParty"},
        {"loggedIn": True, "authMethod": "telepathy", "apiProvider": "firstParty"},
        {"loggedIn": True, "authMethod": ["claude.ai"], "apiProvider": "firstParty"},
        {"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "newCloud"},
        {"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "firstParty",
         "apiKeySource": {"x": 1}},
        {"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "firstParty",
         "apiKeySource": "some new source"},
    ],
)  # fmt: skip
def test_an_answer_that_is_not_known_is_not_well(data):
    """Missing members, other types and new words fail closed."""
    verdict = judge_auth_status(data)
    assert not verdict.ok
    assert verdict.culprit


@pytest.mark.parametrize(
    "message",
    [None, [], {}, {"type": "assistant"}, init(None), init(""), init(7), init("user"),
     {"type": "system", "subtype": "init"}, {"type": "system", "apiKeySource": "none"}],
)  # fmt: skip
def test_a_first_message_that_is_not_known_is_not_well(message):
    """Without a plain "none" in an init message the run does not go on."""
    assert not judge_init(message).ok


def test_another_address_counts_only_where_anthropic_is_expected():
    """Newer versions say whether Anthropic answers; a stand-in on loopback is another address."""
    message = {**init("none"), "served_by_anthropic": False}
    assert judge_init(message).ok
    assert not judge_init(message, official=True).ok
    assert judge_init({**message, "served_by_anthropic": True}, official=True).ok
    assert judge_init(init("none"), official=True).ok  # 2.1.197 does not say


def test_a_setting_permits_only_its_own_way_of_paying():
    """A key where a subscription is set is refused, and the other way round."""
    subscription, key = judge_init(init("none")), judge_init(init("ANTHROPIC_API_KEY"))
    unknown = judge_init({})
    assert [x.permits("subscription") for x in (subscription, key, unknown)] == [True, False, False]
    assert [x.permits("api-key") for x in (subscription, key, unknown)] == [False, True, False]
    assert not subscription.permits("")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["loggedIn", "authMethod", "apiProvider", "apiKeySource", "env",
                         "apiKeyHelper", "ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK"])
        | st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_answer_is_judged(data):
    """Whatever JSON comes, a verdict comes, and it is well only for the two known methods."""
    verdict = judge_auth_status(data)
    if verdict.ok:
        assert data["authMethod"] in ("claude.ai", "oauth_token")
        assert data["apiProvider"] == "firstParty"
    assert isinstance(judge_init(data).ok, bool)


# Culprits


def write(file, content):
    """Put JSON (or raw text or bytes) into a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))


def scan(folder, environ=None):
    """The culprits below a throwaway folder."""
    return find_culprits(
        environ=environ or {},
        config_dir=folder / "home/.claude",
        repo=folder / "repo",
        managed=folder / "managed",
    )


def test_a_clean_machine_has_no_culprit(tmp_path):
    """Ordinary settings and variables are not reported."""
    write(tmp_path / "home/.claude/settings.json", {"model": "opus", "env": {"FOO": "1"}})
    write(tmp_path / "repo/.claude/settings.json", {"permissions": {"allow": ["Read"]}})
    write(tmp_path / "home/.claude.json", {"customApiKeyResponses": {"approved": []}})
    environ = {"PATH": "/bin", "CLAUDE_CODE_USE_POWERSHELL_TOOL": "1", "ANTHROPIC_MODEL": "x",
               "CLAUDE_CODE_USE_BEDROCK": "0", "ANTHROPIC_API_KEY": ""}  # fmt: skip
    assert scan(tmp_path, environ) == []


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_UNIX_SOCKET",
        "AWS_BEARER_TOKEN_BEDROCK",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_A_PROVIDER_OF_NEXT_YEAR",
    ],
)
@pytest.mark.parametrize("place", ["environment", "user", "project", "local", "managed", "dropin"])
def test_every_variable_is_found_in_every_place(tmp_path, name, place):
    """In the environment and in each settings file's env block, by name and never by value."""
    files = {
        "user": "home/.claude/settings.json",
        "project": "repo/.claude/settings.json",
        "local": "repo/.claude/settings.local.json",
        "managed": "managed/managed-settings.json",
        "dropin": "managed/managed-settings.d/50-keys.json",
    }
    environ = {}
    if place == "environment":
        environ = {name: "made-up-value"}
    else:
        write(tmp_path / files[place], {"env": {name: "made-up-value"}})
    (culprit,) = scan(tmp_path, environ)
    assert name in culprit.what
    assert culprit.decisive
    assert culprit.remedy
    assert culprit.where == (
        "the environment" if place == "environment" else str(tmp_path / files[place])
    )
    assert "made-up" not in str(culprit)


@pytest.mark.parametrize("key", ["apiKeyHelper", "awsAuthRefresh", "awsCredentialExport"])
def test_every_helper_is_found(tmp_path, key):
    """A program that supplies a key is a culprit in any settings file; its line is not shown."""
    write(tmp_path / "repo/.claude/settings.json", {key: "echo made-up-key"})
    (culprit,) = scan(tmp_path)
    assert culprit.what.startswith(f"{key}:")
    assert "made-up" not in str(culprit)


def test_another_login_in_a_settings_file_is_a_culprit(tmp_path):
    """A repository must not have the run use somebody else's login."""
    write(tmp_path / "repo/.claude/settings.json", {"env": {"CLAUDE_CODE_OAUTH_TOKEN": "x"}})
    assert [x.decisive for x in scan(tmp_path)] == [True]
    assert find_culprits(
        environ={"CLAUDE_CODE_OAUTH_TOKEN": "x"}, config_dir=tmp_path / "none", repo=None,
        managed=tmp_path / "none",
    ) == []  # fmt: skip


@pytest.mark.parametrize("value", [True, 1, "1", "true", ["x"], {"x": 1}])
def test_a_switch_of_any_type_counts(tmp_path, value):
    """Whatever is not plainly off is on."""
    write(tmp_path / "repo/.claude/settings.json", {"env": {"CLAUDE_CODE_USE_VERTEX": value}})
    assert len(scan(tmp_path)) == 1


@pytest.mark.parametrize("value", [False, 0, "0", "false", "No", "", None])
def test_a_switch_that_is_off_does_not_count(tmp_path, value):
    """A provider that is switched off is no culprit."""
    write(tmp_path / "repo/.claude/settings.json", {"env": {"CLAUDE_CODE_USE_VERTEX": value}})
    assert scan(tmp_path) == []


def test_what_counts_only_beside_something_else_says_so(tmp_path):
    """A Console key in the CLI's state, a provider's region: reported, and not decisive."""
    write(tmp_path / "home/.claude.json", {
        "primaryApiKey": "sk-ant-api03-made-up", "customApiKeyResponses": {"approved": ["x"]},
    })  # fmt: skip
    found = scan(tmp_path, {"ANTHROPIC_VERTEX_PROJECT_ID": "made-up"})
    assert [x.what.partition(":")[0] for x in found] == [
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "primaryApiKey",
        "customApiKeyResponses",
    ]
    assert not any(x.decisive for x in found)
    assert "made-up" not in "".join(map(str, found))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 200_000, b'{"a":' * 100_000,
     b"// comment\n{}", b'{"env": ["ANTHROPIC_API_KEY"]}', b'{"env": "x"}', b"7" * 6000],
    ids=range(11),
)  # fmt: skip
def test_a_file_that_cannot_be_understood_is_a_culprit(tmp_path, content):
    """It may say anything to the CLI, so it is reported and nothing is raised."""
    file = tmp_path / "repo/.claude/settings.json"
    write(file, content)
    (culprit,) = scan(tmp_path)
    assert (culprit.where, culprit.decisive) == (str(file), True)


def test_a_byte_order_mark_hides_nothing(tmp_path):
    """A file that begins with one is read."""
    write(tmp_path / "repo/.claude/settings.json", b'\xef\xbb\xbf{"apiKeyHelper": "x"}')
    assert [x.what[:12] for x in scan(tmp_path)] == ["apiKeyHelper"]


def test_hostile_files_of_a_repository_are_survived(tmp_path):
    """FIFO, loop of links, device, sparse gigabytes: each is one line, at once."""
    folder = tmp_path / "repo/.claude"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "settings.json")
    (folder / "settings.local.json").symlink_to("settings.local.json")
    found = scan(tmp_path)
    assert ["not a regular file" in found[0].what, "loop" in found[1].what] == [True, True]
    (folder / "settings.json").unlink()
    (folder / "settings.json").symlink_to("/dev/zero")
    (folder / "settings.local.json").unlink()
    with open(folder / "settings.local.json", "wb") as file:
        file.truncate(1 << 40)
    found = scan(tmp_path)
    assert ["not a regular file" in found[0].what, "larger" in found[1].what] == [True, True]


@given(json_values)
def test_any_settings_are_survived(tmp_path_factory, data):
    """Whatever JSON a repository brings, the scan ends; a key in its env block is never missed."""
    folder = tmp_path_factory.mktemp("any")
    write(folder / "repo/.claude/settings.json", data)
    found = scan(folder)
    env = data.get("env") if isinstance(data, dict) else None
    if isinstance(env, dict) and env.get("ANTHROPIC_API_KEY") not in (None, ""):
        assert any("ANTHROPIC_API_KEY" in x.what for x in found)
    if not isinstance(data, dict):
        assert len(found) == 1


def test_neutral_settings_blank_every_known_name():
    """What the box is given leaves no known variable to a project, and names the address."""
    held = billing.neutral_settings(base_url="http://127.0.0.1:1", kind="file")
    assert held["env"].pop("ANTHROPIC_BASE_URL") == "http://127.0.0.1:1"
    own = {n: v for n, v in held["env"].items() if v}
    assert own == {
        "HOME": "/plandock/home",
        "CLAUDE_CONFIG_DIR": "/plandock/home/.claude",
        "NODE_TLS_REJECT_UNAUTHORIZED": "1",
    }
    assert {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS",
            "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_OAUTH_TOKEN"} <= set(held["env"])  # fmt: skip
    assert held["apiKeyHelper"] == ""


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("setup-token", "CLAUDE_CODE_OAUTH_TOKEN"), ("api-key", "ANTHROPIC_API_KEY")],
)
def test_neutral_settings_leave_the_login_itself_alone(kind, kept):
    """The variable that carries the run's own login is not blanked, the other one is."""
    env = billing.neutral_settings(base_url="x", kind=kind)["env"]
    both = {"CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY"}
    assert both - set(env) == {kept}


def test_the_managed_folder_is_the_systems(monkeypatch):
    """Where an organisation's settings lie depends on the system."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert billing.managed_dir() == Path("/etc/claude-code")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert billing.managed_dir() == Path("/Library/Application Support/ClaudeCode")
