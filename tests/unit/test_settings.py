"""Layers of settings: who wins, what a repository may not say, and hostile files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock import settings
from plandock.errors import SettingsError
from plandock.settings import Settings, load, login_volume, trusted, upstream
from plandock.settings.keys import all_keys
from plandock.settings.show import rows


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A folder that stands for a repository."""
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own config.toml, in a throwaway place; not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "plandock").mkdir(parents=True)
    return tmp_path / "config" / "plandock" / "config.toml"


def theirs(repo: Path, text: str) -> Path:
    """Write the repository's file."""
    path = repo / ".plandock.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_contracts(repo: Path, config: Path) -> None:
    """With nothing written, every key has the default that the design page names."""
    found = load(repo=repo, environ={})
    assert (found.branch, found.engine, found.dirty) == ("feature/auto", "auto", "include")
    assert (found.max_turns, found.timeout_s, found.max_parallel) == (50, 14400.0, 2)
    assert (found.billing, found.credentials, found.prestage) == ("subscription", "auto", True)
    assert found.on_accept == ("acceptEdits", "auto", "bypassPermissions")
    assert set(found.origins.values()) == {"default"}
    assert found.refused == ()


def test_a_later_layer_wins(repo: Path, config: Path) -> None:
    """Repository, user's file, variable and flag lie over each other in that order."""
    path = theirs(repo, 'branch = "a"\nsetup = "one"\ndirty = "refuse"\nprestage = false\n')
    config.write_text('setup = "two"\ndirty = "exclude"\nprestage = true\n')
    env = {"PLANDOCK_DIRTY": "include", "PLANDOCK_PRESTAGE": "no"}
    found = load(repo=repo, flags={"prestage": "yes"}, environ=env)
    assert (found.branch, found.setup, found.dirty) == ("a", "two", "include")
    assert found.prestage is True
    assert {k: found.origins[k] for k in ("branch", "setup", "dirty", "prestage", "image")} == {
        "branch": str(path),
        "setup": str(config),
        "dirty": "PLANDOCK_DIRTY",
        "prestage": "flag",
        "image": "default",
    }


USER_ONLY = {
    "billing": '"api-key"',
    "credentials": '"host"',
    "egress": '["evil.example.com"]',
    "image": '"evil/image"',
    "engine": '"podman"',
    "runtime": '"weak"',
    "npm_registry": '"https://evil.example.com/"',
    "notify": '["/bin/sh", "-c", "true"]',
    "on_accept": '["auto"]',
    "carry": '[".env"]',
    "caches": '["npm"]',
    "max_parallel": "60",
    "memory": '"64g"',
    "cpus": "64",
    "pids": "100000",
    "max_turns": "1000",
    "timeout": '"20d"',
}


def test_a_repository_may_not_weaken_anything_alone(repo: Path, config: Path) -> None:
    """Every guarded key from the repository is passed over, and reported with file and reason."""
    path = theirs(repo, "".join(f"{k} = {v}\n" for k, v in USER_ONLY.items()))
    found = load(repo=repo, environ={})
    safe = load(repo=None, environ={})
    assert {r.key for r in found.refused} == set(USER_ONLY)
    assert all(r.where == str(path) and r.why for r in found.refused)
    for key in all_keys().values():
        assert getattr(found, key.field) == getattr(safe, key.field), key.name


def test_every_key_that_a_repository_may_set_is_known() -> None:
    """A new key is user-only unless this list says otherwise."""
    free = {k.name for k in all_keys().values() if k.rule == "free"}
    assert free == {"branch", "node", "setup", "dirty", "prestage"}


def test_a_repository_may_lower_limits(repo: Path, config: Path) -> None:
    """Smaller time, turns, memory, processors and processes count."""
    theirs(repo, 'timeout = "30m"\nmax_turns = 5\nmemory = "1g"\ncpus = 1\npids = 100\n')
    found = load(repo=repo, environ={})
    assert (found.timeout_s, found.max_turns, found.memory) == (1800.0, 5, 1 << 30)
    assert (found.cpus, found.pids, found.refused) == (1.0, 100, ())


def test_a_budget_of_a_repositorys_counts_where_the_user_has_none_or_a_larger_one(
    repo: Path, config: Path
) -> None:
    """Without one of the user's any budget is a lower one."""
    theirs(repo, "max_budget_usd = 3\n")
    assert load(repo=repo, environ={}).max_budget_usd == 3.0
    config.write_text("max_budget_usd = 2.5\n")
    found = load(repo=repo, environ={})
    assert (found.max_budget_usd, [r.key for r in found.refused]) == (2.5, ["max_budget_usd"])


def test_the_user_can_grant_a_repository_a_key(repo: Path, config: Path, tmp_path: Path) -> None:
    """A grant in the user's file counts for that very repository and key alone."""
    theirs(repo, 'egress = ["api.example.com"]\nimage = "other"\n')
    link = tmp_path / "link"
    link.symlink_to(repo)
    config.write_text(f'[repository."{link}"]\nallow = ["egress"]\n')
    found = load(repo=repo, environ={})
    assert found.egress == ("api.example.com",)
    assert [r.key for r in found.refused] == ["image"]
    other = tmp_path / "other"
    other.mkdir()
    theirs(other, 'egress = ["api.example.com"]\n')
    assert load(repo=other, environ={}).egress == ()


def test_a_repository_cannot_grant_itself_anything(repo: Path, config: Path) -> None:
    """The table of grants is an unknown key in the repository's file."""
    theirs(repo, f'[repository."{repo}"]\nallow = ["egress"]\n')
    with pytest.raises(SettingsError, match="line 1: unknown setting 'repository'"):
        load(repo=repo, environ={})


@pytest.mark.parametrize(
    "table",
    ['repository = 3', '[repository."/x"]\nalow = []', '[repository."/x"]\nallow = ["nix"]',
     '[repository."/x"]\nallow = "egress"', '[repository."x"]\nallow = []'],
)  # fmt: skip
def test_a_wrong_grant_is_an_error(config: Path, table: str) -> None:
    """A misspelt grant is not silently without effect."""
    config.write_text(table)
    with pytest.raises(SettingsError, match=r"config\.toml"):
        load(repo=None, environ={})


@pytest.mark.parametrize(
    "variable", [("PLANDOCK_EGRESS", "evil.example.com"), ("PLANDOCK_BILLING", "api-key")]
)
@pytest.mark.parametrize("file", ["settings.json", "settings.local.json"])
def test_a_repositorys_env_block_is_not_the_users_word(
    repo: Path, config: Path, variable: tuple[str, str], file: str
) -> None:
    """A variable that the project's Claude settings set is refused like its .plandock.toml."""
    (repo / ".claude").mkdir()
    name, value = variable
    (repo / ".claude" / file).write_text(json.dumps({"env": {name: value}}))
    found = load(repo=repo, environ={name: value, "CLAUDECODE": "1"})
    assert [r.key for r in found.refused] == [name.removeprefix("PLANDOCK_").lower()]
    assert (found.egress, found.billing) == ((), "subscription")
    assert found.refused[0].where == f"{repo / '.claude' / file} (env)"


def test_naming_a_variable_does_not_void_the_users_own(repo: Path, config: Path) -> None:
    """In the user's shell nothing is laid over: a repository could else unseal a sealed run."""
    (repo / ".claude").mkdir()
    settings = repo / ".claude/settings.json"
    settings.write_text(json.dumps({"env": {"PLANDOCK_CREDENTIALS": "host"}}))
    env = {"PLANDOCK_CREDENTIALS": "sealed"}
    assert load(repo=repo, environ=env).credentials == "sealed"
    assert load(repo=repo, environ={**env, "CLAUDE_PROJECT_DIR": "/x"}).credentials == "auto"
    # One that could hide Claude Code's own marks, or that cannot be read, is not believed.
    settings.write_text(json.dumps({"env": {"PLANDOCK_CREDENTIALS": "host", "CLAUDECODE": ""}}))
    assert load(repo=repo, environ=env).credentials == "auto"
    settings.write_text("[" * 200_000)
    assert load(repo=repo, environ=env).credentials == "auto"


def test_broken_settings_of_a_repository_void_what_they_may_name(repo: Path, config: Path) -> None:
    """Claude Code ignores a file that is no JSON; a later one may take a comma too many."""
    (repo / ".claude").mkdir()
    settings = repo / ".claude/settings.json"
    env = {"PLANDOCK_CREDENTIALS": "sealed", "CLAUDECODE": "1"}
    named = '{"env": {"PLANDOCK_CREDENTIALS": "host"},}'
    for text, credentials in (
        ("{", "sealed"),
        ('{"permissions": {"deny": ["Bash"]},,}', "sealed"),
        (named, "auto"),
        (named.replace("CREDENTIALS", "CREDENTIAL\\u0053"), "auto"),
    ):
        for encoding in ("utf-8", "utf-16"):
            settings.write_text(text, encoding)
            assert load(repo=repo, environ=env).credentials == credentials, (text, encoding)
    # Outside of Claude Code it counts where it may hide that Claude Code is there.
    del env["CLAUDECODE"]
    assert load(repo=repo, environ=env).credentials == "auto"
    settings.write_text(named)
    assert load(repo=repo, environ=env).credentials == "sealed"


def test_variables_for_repair_count_from_the_user_alone(repo: Path, tmp_path: Path) -> None:
    """What a project's env block names is taken out, in the project's folder too."""
    (tmp_path / ".claude").mkdir()
    block = {"env": {"PLANDOCK_CLAUDE": "/evil", "PATH": "/evil"}}
    (tmp_path / ".claude" / "settings.json").write_text(json.dumps(block))
    env = {"PLANDOCK_CLAUDE": "/evil", "CLAUDE_PROJECT_DIR": str(tmp_path), "PATH": "/bin"}
    assert trusted(env, repo) == {"CLAUDE_PROJECT_DIR": str(tmp_path), "PATH": "/bin"}


def test_an_unknown_key_names_file_line_and_the_nearest(repo: Path, config: Path) -> None:
    """A typing error says where it stands and what was probably meant."""
    path = theirs(repo, '# hello\nsetup = """\negres = 1\n"""\n\negres = ["a.b"]\n')
    with pytest.raises(SettingsError) as caught:
        load(repo=repo, environ={})
    assert caught.value.message == f"{path}, line 6: unknown setting 'egres'"
    assert caught.value.hint == "did you mean egress?"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('max_turns = "50"', "whole number from 1 to 100000, not '50'"),
        ("max_turns = 0", "whole number"),
        ("max_turns = true", "whole number"),
        ('timeout = "4 weeks"', "time from 1s to 30d"),
        ("timeout = nan", "time from 1s"),
        ("timeout = true", "time from 1s"),
        ('memory = "1m"', "size from 64m"),
        ("memory = inf", "size from 64m"),
        ("cpus = 0", "number of processors"),
        ("max_budget_usd = 0", "an amount in US dollars"),
        ("max_budget_usd = nan", "an amount in US dollars"),
        ('engine = "dcoker"', "one of auto, docker, podman"),
        ('prestage = "yes"', "true or false"),
        ('egress = "a.example.com"', "list of host names"),
        ('egress = ["*.com"]', "list of host names"),
        ('egress = ["10.0.0.1"]', "list of host names"),
        ('egress = ["localhost"]', "list of host names"),
        ('egress = ["[::1]"]', "list of host names"),
        ('egress = ["a.example.com:22"]', "list of host names"),
        ('carry = ["../../.ssh"]', "paths inside"),
        ('carry = ["/etc/passwd"]', "paths inside"),
        ('carry = [".GIT/config"]', "paths inside"),
        ('caches = ["/a:/b"]', "presets or absolute"),
        ('branch = "-x"', "a branch name"),
        ('branch = "a..b"', "a branch name"),
        ('branch = "{user}"', "a branch name"),
        ('image = "--privileged"', "image's name"),
        ('runtime = "a b"', "one word"),
        ('notify = ["a\\u0000"]', "a program"),
        ('on_accept = ["default"]', "acceptEdits"),
    ],
)
def test_a_wrong_value_names_file_line_and_what_is_expected(
    config: Path, line: str, expected: str
) -> None:
    """Wrong types and ranges are refused with the place and the expected form."""
    config.write_text(f"# first\n{line}\n")
    with pytest.raises(SettingsError, match="line 2: ") as caught:
        load(repo=None, environ={})
    assert expected in caught.value.message


def test_a_registry_with_a_login_in_it_is_refused_unseen(config: Path) -> None:
    """The value could hold a token, so the message does not repeat it."""
    config.write_text('npm_registry = "https://me:hunter2@r.example.com/"\n')
    with pytest.raises(SettingsError) as caught:
        load(repo=None, environ={})
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("TIMEOUT", "90m", "timeout_s", 5400.0),
        ("TIMEOUT", "1h30m", "timeout_s", 5400.0),
        ("TIMEOUT", "90", "timeout_s", 90.0),
        ("TIMEOUT", "1.5d", "timeout_s", 129600.0),
        ("MEMORY", "512m", "memory", 512 << 20),
        ("MEMORY", "2GiB", "memory", 2 << 30),
        ("CPUS", "1.5", "cpus", 1.5),
        ("MAX_BUDGET_USD", "2.5", "max_budget_usd", 2.5),
        ("MAX_TURNS", "7", "max_turns", 7),
        ("EGRESS", "npm, *.example.com", "egress", ("npm", "*.example.com")),
        ("EGRESS", "[]", "egress", ()),
        ("NOTIFY", '["say", "a,b"]', "notify", ("say", "a,b")),
        ("BRANCH", "auto/{slug}-{run}", "branch", "auto/{slug}-{run}"),
        ("IMAGE", "", "image", "debian:bookworm-slim"),
    ],
)
def test_the_environment_is_read_as_text(
    config: Path, name: str, text: str, field: str, value: object
) -> None:
    """Times, sizes, numbers and lists can be given as variables; an empty one is not set."""
    found = load(repo=None, environ={f"PLANDOCK_{name}": text})
    assert getattr(found, field) == value


def test_a_wrong_variable_or_flag_is_named() -> None:
    """The message says which variable or flag is off."""
    with pytest.raises(SettingsError, match="PLANDOCK_MAX_TURNS: max_turns must be"):
        load(repo=None, environ={"PLANDOCK_MAX_TURNS": "many"})
    with pytest.raises(SettingsError, match="--max-turns: max_turns must be"):
        load(repo=None, flags={"max_turns": -1}, environ={})
    with pytest.raises(SettingsError, match="flag: unknown setting"):
        load(repo=None, flags={"nonesuch": 1}, environ={})


def test_flags_not_given_do_not_count(config: Path) -> None:
    """None and click's empty tuple mean "not given"; 0 and False do not."""
    config.write_text('egress = ["a.example.com"]\n')
    found = load(
        repo=None, flags={"egress": (), "branch": None, "prestage": False}, environ={}
    )  # fmt: skip
    assert found.egress == ("a.example.com",)
    assert (found.branch, found.prestage) == ("feature/auto", False)


def test_variables_that_are_no_settings_are_let_alone(config: Path) -> None:
    """plandock's other variables, and unknown ones, are no unknown keys."""
    names = ["UPSTREAM", "CLAUDE", "SECURITY", "BOX", "TEST_X", "SETUP_DIR", "PYTHON", "WHATEVER"]
    found = load(repo=None, environ={f"PLANDOCK_{n}": "x" for n in names})
    assert set(found.origins.values()) == {"default"}


@pytest.mark.parametrize("name", ["EGRES", "CREDENTIAL", "BILING", "MAXTURNS", "CPU"])
def test_a_misspelt_variable_is_an_error(name: str, repo: Path, config: Path) -> None:
    """Silence would leave the user in the belief that it counts; a repository's is passed over."""
    with pytest.raises(SettingsError, match=f"PLANDOCK_{name} is no setting") as caught:
        load(repo=repo, environ={f"PLANDOCK_{name}": "sealed"})
    assert "it is PLANDOCK_" in caught.value.hint
    (repo / ".claude").mkdir()
    block = {"env": {f"PLANDOCK_{name}": "sealed"}}
    (repo / ".claude/settings.json").write_text(json.dumps(block))
    within = {**block["env"], "CLAUDECODE": "1"}
    assert load(repo=repo, environ=within) == load(repo=repo, environ={})


def _big(path: Path) -> None:
    path.write_bytes(b"#" * (256 * 1024 + 1))


def _linked(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _deep(path: Path) -> None:
    path.write_text("setup = " + "[" * 100_000)


def _many_parts(path: Path) -> None:
    path.write_text(".".join("a" * 100_000) + " = 1")


def _many_keys(path: Path) -> None:
    path.write_text("[" + ".".join("a" * 60) + "]\n" + "".join(f"k{i}=1\n" for i in range(30_000)))


def _unending(path: Path) -> None:
    path.write_text('setup = """\n' + "egres = 1\n" * 4000)


HOSTILE = {
    "huge": _big,
    "a link": _linked,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "not UTF-8": lambda path: path.write_bytes(b'x = "\n\xff"'),
    "deep arrays": _deep,
    "deep tables": lambda path: path.write_text("a = " + "{a=" * 80_000),
    "a long dotted key": _many_parts,
    "many keys under a long header": _many_keys,
    "a string without end": _unending,
    "a huge number": lambda path: path.write_text("max_turns = " + "9" * 200_000),
    "NUL": lambda path: path.write_bytes(b"branch = \0"),
    "a long key": lambda path: path.write_text("k" * 250_000 + " = 1"),
    "nested values": lambda path: path.write_text("setup = " + "[" * 200 + "]" * 200),
    "an impossible date": lambda path: path.write_text("setup = 2020-13-45"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_an_error_not_a_crash(repo: Path, config: Path, kind: str) -> None:
    """Whatever stands at .plandock.toml, one short error names the file, at once."""
    path = repo / ".plandock.toml"
    HOSTILE[kind](path)
    started = time.process_time()
    with pytest.raises(SettingsError) as caught:
        load(repo=repo, environ={})
    assert time.process_time() - started < 30  # the square of such a length takes minutes
    assert str(path) in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 200
    assert caught.value.message.replace(str(path), "").isprintable()


def test_the_users_own_file_may_be_a_link(config: Path, tmp_path: Path) -> None:
    """Dotfiles managers link it into place."""
    (tmp_path / "dotfile").write_text('branch = "mine"\n')
    config.symlink_to(tmp_path / "dotfile")
    assert load(repo=None, environ={}).branch == "mine"


def test_settings_survive_being_frozen_into_a_run(repo: Path, config: Path) -> None:
    """to_dict is plain JSON, and from_dict brings back the very same settings."""
    theirs(repo, 'billing = "api-key"\nsetup = "make\\nmore"\n')
    env = {"PLANDOCK_CPUS": "2", "PLANDOCK_EGRESS": "npm"}
    found = load(repo=repo, flags={"timeout": "2h"}, environ=env)
    assert Settings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_record_of_another_version_can_be_read() -> None:
    """Missing keys take defaults, unknown ones are passed over, damage is an error."""
    assert Settings.from_dict({"branch": "x", "new_thing": 1}).branch == "x"
    with pytest.raises(SettingsError):
        Settings.from_dict({"max_turns": "many"})


@pytest.mark.parametrize("value", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9"])
def test_a_stand_in_on_loopback_is_taken(value: str) -> None:
    """The three spellings of loopback are honoured, with or without a slash."""
    assert upstream({"PLANDOCK_UPSTREAM": value + "/"}) == value
    assert upstream({}) == ""


@pytest.mark.parametrize(
    "value",
    ["https://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:0", "http://127.0.0.1:65536",
     "http://127.0.0.1:80@evil.example.com", "http://evil.example.com:80", "http://127.0.0.1:1/x",
     "http://localhost.evil.example.com:1", "http://127.0.0.1:1\n", "http://0.0.0.0:1",
     "http://127.0.0.1:١"],
)  # fmt: skip
def test_a_stand_in_anywhere_else_is_refused(value: str) -> None:
    """A login goes to no other address through this variable."""
    with pytest.raises(SettingsError, match="PLANDOCK_UPSTREAM must be"):
        upstream({"PLANDOCK_UPSTREAM": value})


def test_login_volume_is_the_users_unless_a_variable_names_another() -> None:
    """Tests name one of their own; an empty value names none."""
    assert login_volume({}) == login_volume({"PLANDOCK_LOGIN_VOLUME": ""}) == "plandock-login"
    assert login_volume({"PLANDOCK_LOGIN_VOLUME": "plandock-login-a1"}) == "plandock-login-a1"


@pytest.mark.parametrize(
    "value",
    ["plandock-r7k2-work", "plandock-mirror-0", "login", "plandock-login-", "plandock-login-A",
     "plandock-login-link-0a1b", "plandock-login-a\n", "plandock-login-a/b", "-v", "/etc",
     "plandock-login-" + "a" * 41],
)  # fmt: skip
def test_login_volume_is_refused_when_it_could_be_another_volume(value: str) -> None:
    """Neither a run's volume, nor a mirror, nor what stands beside a login, nor a host folder."""
    with pytest.raises(SettingsError, match="PLANDOCK_LOGIN_VOLUME must be"):
        login_volume({"PLANDOCK_LOGIN_VOLUME": value})


def test_config_shows_values_as_one_writes_them(repo: Path, config: Path) -> None:
    """Each row can be written back into a file, and says what was refused."""
    theirs(repo, 'billing = "api-key"\n')
    shown = {r.key: r for r in rows(load(repo=repo, environ={"PLANDOCK_TIMEOUT": "90m"}))}
    assert set(shown) == set(all_keys())
    assert (shown["timeout"].value, shown["timeout"].origin) == ("90m", "PLANDOCK_TIMEOUT")
    assert (shown["memory"].value, shown["egress"].value) == ("4g", [])
    assert "counts only from your own" in shown["billing"].refused
    assert json.dumps([r.to_dict() for r in shown.values()])


@given(st.sampled_from(sorted(all_keys())), st.text(max_size=40))
def test_no_text_in_a_variable_crashes(key: str, text: str) -> None:
    """Any text is a valid value or one SettingsError."""
    try:
        found = load(repo=None, environ={f"PLANDOCK_{key.upper()}": text})
    except SettingsError as error:
        message, found = error.message, Settings()
    else:
        message = key
    assert message.isprintable()
    assert Settings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_importing_settings_is_light() -> None:
    """The hook imports this: nothing heavy comes along, not even tomllib without a file."""
    code = "import sys, plandock.settings; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(settings.__file__).parents[2]), "PATH": os.environ["PATH"]},
    ).stdout.split()  # fmt: skip
    assert not {"click", "rich", "h11", "tomllib", "json", "subprocess", "difflib"} & set(names)
