"""The user's package clients: which hosts and addresses are read from their settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plandock.gateway.clients import apt, cargo, go, npm, pip
from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User
from plandock.settings.hosts import is_host_name
from tests.support.clients import put


def program(folder: Path, name: str, body: str) -> str:
    """A client that says something of its own; the PATH with it."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


# Addresses


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://mirror.example.com/simple", "https://mirror.example.com/simple"),
        ("https://MIRROR.example.com:443/a", "https://mirror.example.com/a"),
        ("https://me:hunter2@mirror.example.com/a", "https://mirror.example.com/a"),
        ("https://hunter2@mirror.example.com/a?key=hunter2#x", "https://mirror.example.com/a"),
    ],
)
def test_an_address_comes_without_its_login(text: str, clean: str) -> None:
    """What stays is the host and the path; that a login stays behind is noted, not the login."""
    found = Found("npm")
    assert found.address(text) == clean
    assert found.hosts == ["mirror.example.com"]
    assert ("needs a login" in "".join(found.notes)) == ("hunter2" in text)
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "http://mirror.example.com/",
        "https://mirror.example.com:8443/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://127.1/",
        "https://*.example.com/",
        "https://mirror.example.com/a b",
        "https://mirror.example.com/a\nregistry=https://other.example.com/",
        'https://mirror.example.com/"]',
        "https://mirror.example.com:99999999/",
        "https://[/",
        "file:///opt/simple",
        "git+ssh://git@mirror.example.com/x",
        "https://mirror.example.com/a1b2c3d4e5f6a7b8c9d0/simple",
        "",
    ],
)
def test_an_address_that_the_gateway_would_not_open_is_refused_with_a_note(text: str) -> None:
    """No other port or scheme, no literal, nothing that would end a line or a string."""
    found = Found("npm")
    assert found.address(text) is None
    assert found.hosts == []
    assert len(found.notes) == 1


@given(st.text(max_size=200) | st.text(max_size=80).map(lambda s: "https://a.example.com/" + s))
def test_any_address_is_either_refused_or_plain(text: str) -> None:
    """Whatever stands in a client's file: a host name and a path without special characters."""
    found = Found("x")
    clean = found.address(text, http_too=True)
    assert (clean is None) == (found.hosts == [])
    if clean is not None:
        assert clean.startswith("https://" + found.hosts[0])
        assert is_host_name(found.hosts[0])
        assert not set(clean) & set(" \t\r\n\"'\\`$;#?<>[]{}")


# npm


@pytest.mark.parametrize("read", [npm.read, pip.read, cargo.read, go.read])
def test_a_client_that_is_missing_and_set_up_for_nothing_allows_nothing(
    user: User, read: Callable[[User], Found]
) -> None:
    """No registry is known by heart: a note says what to do; the box's client keeps its default."""
    found = read(user)
    assert found.hosts == []
    assert [note.partition("; ")[2] for note in found.notes] == [
        "write those that it needs into `egress`"
    ]
    assert not any(found.box.values())


def test_npms_files_are_read_without_their_logins(user: User) -> None:
    """Registry, scopes and certificates; the token is no more than a note."""
    put(
        user.home,
        ".npmrc",
        "registry=https://npm.example.com/group/\n@corp:registry=https://corp.example.com/\n"
        "//npm.example.com/:_authToken=hunter2hunter2\ncafile=/etc/corp.pem\n",
    )
    found = npm.read(user)
    assert found.box["registry"] == "https://npm.example.com/group/"
    assert found.box["scopes"] == {"@corp": "https://corp.example.com/"}
    assert found.hosts == ["npm.example.com", "corp.example.com"]
    assert found.ca_files == ["/etc/corp.pem"]
    assert found.notes == ["the mirror of npm needs a login; it isn't taken along"]
    assert "hunter2" not in repr(found)


def test_npm_itself_is_asked_in_the_home_folder(home: Path, tmp_path: Path) -> None:
    """Its own answer goes before the files, and it is not run where a repository is."""
    answer = json.dumps({"registry": "https://said.example.com/", "ca": None})
    path = program(tmp_path / "bin", "npm", f"pwd > {tmp_path}/where; echo '{answer}'")
    put(home, ".npmrc", "registry=https://file.example.com/\n")
    assert npm.read(User({"HOME": str(home), "PATH": path})).hosts == ["said.example.com"]
    assert (tmp_path / "where").read_text().strip() == str(home)


# pip


PACKAGE = """
PyPI = PackageIndex("https://index.example.com/", file_storage_domain="files.example.com")
TestPyPI = PackageIndex("https://test.example.com/", file_storage_domain="test.example.com")
"""


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("", ["index.example.com", "files.example.com"]),
        ("global.index-url='https://pip.example.com/simple'", ["pip.example.com"]),
        (
            "global.index-url='https://index.example.com/simple'",
            ["index.example.com", "files.example.com"],
        ),
    ],
)
def test_pips_own_index_and_the_host_of_its_files_are_read_from_its_package(
    home: Path, tmp_path: Path, listed: str, hosts: list[str]
) -> None:
    """Where it is set up for no other; the files' host goes with that index alone."""
    put(tmp_path, "place (1)/pip/_internal/models/index.py", PACKAGE)
    version = f"pip 23.2.1 from {tmp_path}/place (1)/pip (python 3.11)"
    body = f'case "$1" in --version) echo "{version}";; config) echo "{listed}";; esac'
    path = program(tmp_path / "bin", "pip3", body)
    found = pip.read(User({"HOME": str(home), "PATH": path}))
    assert found.hosts == hosts
    assert found.box["index"] == f"https://{hosts[0]}/simple"
    assert found.notes == []


def test_the_pip_of_this_machine_names_an_index_and_the_host_of_its_files(
    home: Path, tmp_path: Path
) -> None:
    """What is read is how pip's package is written, not how a test has it."""
    path = program(tmp_path / "bin", "pip3", f'exec {sys.executable} -I -m pip "$@"')
    found = pip.read(User({"HOME": str(home), "PATH": path, "PIP_CONFIG_FILE": "/dev/null"}))
    assert len(found.hosts) == 2
    assert found.notes == []


def test_a_mirror_of_pip_is_read_without_its_login(user: User) -> None:
    """Index, further indexes and certificates; PyPI's own files are not needed then."""
    put(
        user.home,
        ".config/pip/pip.conf",
        "[global]\nindex-url = https://me:hunter2@pip.example.com/simple\n"
        "extra-index-url =\n  https://more.example.com/simple\n  http://plain.example.com/\n"
        "cert = /etc/corp.pem\n",
    )
    found = pip.read(user)
    assert found.box == {
        "index": "https://pip.example.com/simple",
        "extra": ["https://more.example.com/simple"],
    }
    assert found.hosts == ["pip.example.com", "more.example.com"]
    assert found.ca_files == ["/etc/corp.pem"]
    assert any("needs a login" in note for note in found.notes)
    assert any("not https" in note for note in found.notes)
    assert "hunter2" not in repr(found)


def test_pips_variables_go_before_what_it_lists_for_files(home: Path, tmp_path: Path) -> None:
    """By pip's own order: the environment, `install`, `global`."""
    lines = [
        "global.index-url='https://global.example.com/'",
        ":env:.index-url='https://env.example.com/'",
        "install.index-url='https://install.example.com/'",
        "global.extra-index-url=__import__('os').system('x')",
    ]
    body = "cat <<'END'\n" + "\n".join(lines) + "\nEND"
    path = program(tmp_path / "bin", "pip3", body)
    found = pip.read(User({"HOME": str(home), "PATH": path}))
    assert found.hosts == ["env.example.com"]


# cargo


def cached(home: Path, host: str, config: object) -> None:
    """What cargo keeps of an index that it has used."""
    put(home, f".cargo/registry/index/{host}-0123456789abcdef/config.json", json.dumps(config))


def test_cargos_own_registry_is_known_from_what_cargo_has_used(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index and the host of its files; other indexes in the cache are nobody's wish."""
    monkeypatch.setattr(cargo, "_SOURCE", "crates-example")
    cached(user.home, "index.crates.example", {"dl": "https://files.crates.example/{crate}"})
    cached(user.home, "index.evilcrates.example", {"dl": "https://evil.example.com/"})
    cached(user.home, "old.example.com", {"dl": "https://old-files.example.com/"})
    found = cargo.read(user)
    assert found.hosts == ["index.crates.example", "files.crates.example"]
    assert found.box["index"] == ""
    assert found.notes == []


def test_an_index_of_the_users_brings_the_host_of_its_files(user: User) -> None:
    """Where cargo has used it; whatever else its file says brings nothing."""
    text = '[registries.a]\nindex = "sparse+https://a.example.com/"\n'
    for name in "bcd":
        text += f'[registries.{name}]\nindex = "sparse+https://{name}.example.com/"\n'
    put(user.home, ".cargo/config.toml", text)
    cached(user.home, "a.example.com", {"dl": "https://files.example.com/dl/{crate}"})
    cached(user.home, "b.example.com", {"dl": "https://10.0.0.1/"})
    cached(user.home, "c.example.com", ["dl"])
    cached(user.home, "d.example.com", {"dl": 7})
    hosts = [f"{name}.example.com" for name in "abcd"]
    assert cargo.read(user).hosts == [*hosts, "files.example.com"]


def test_what_replaces_cargos_own_registry_is_followed_to_its_end(user: User) -> None:
    """Over several steps, beside registries by name; tokens stay behind."""
    put(
        user.home,
        ".cargo/config.toml",
        '[source.crates-io]\nreplace-with = "one"\n[source.one]\nreplace-with = "two"\n'
        '[source.two]\nregistry = "sparse+https://u:hunter2@cargo.example.com/index/"\n'
        '[registries.own]\nindex = "https://git.example.com/index.git"\ntoken = "hunter2"\n'
        '[http]\ncainfo = "/etc/corp.pem"\n',
    )
    found = cargo.read(user)
    assert found.box["index"] == "sparse+https://cargo.example.com/index/"
    assert found.box["registries"] == {"own": "https://git.example.com/index.git"}
    assert found.hosts == ["cargo.example.com", "git.example.com"]
    assert found.ca_files == ["/etc/corp.pem"]
    assert found.notes == ["the mirror of cargo needs a login; it isn't taken along"]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        '[source.crates-io]\nreplace-with = "crates-io"\n',
        '[source.crates-io]\nreplace-with = "a"\n[source.a]\nreplace-with = "crates-io"\n',
        '[source.crates-io]\nreplace-with = "a"\n[source.a]\ndirectory = "/vendor"\n',
    ],
)
def test_a_replacement_that_leads_nowhere_allows_nothing(user: User, text: str) -> None:
    """A circle or a folder of this machine is noted; nothing is reached instead."""
    put(user.home, ".cargo/config.toml", text)
    found = cargo.read(user)
    assert found.hosts == []
    assert len(found.notes) == 1


# go


def test_go_says_its_own_defaults(home: Path, tmp_path: Path) -> None:
    """The proxy and the checksum database; `direct` would be any host."""
    said = {"GOPROXY": "https://proxy.example.com,direct", "GOSUMDB": "sum.example.com"}
    path = program(tmp_path / "bin", "go", f"echo '{json.dumps(said)}'")
    found = go.read(User({"HOME": str(home), "PATH": path}))
    assert found.hosts == ["proxy.example.com", "sum.example.com"]
    assert found.box["proxy"] == "https://proxy.example.com"
    assert found.box["sumdb"] == "sum.example.com"


def test_gos_file_and_variables_are_read_without_logins(user: User) -> None:
    """Proxies in both notations, the checksum database elsewhere, `off` kept."""
    put(user.home, ".config/go/env", "GOPROXY=https://file.example.com\nGOSUMDB=off\n")
    assert go.read(user).hosts == ["file.example.com"]
    assert go.read(user).box["sumdb"] == "off"
    environ = {
        **user.environ,
        "GOPROXY": "https://u:hunter2@go.example.com/m|http://plain.example.com,direct",
        "GOSUMDB": "sums.example.com https://sum.example.com/db",
    }
    found = go.read(User(environ))
    assert found.box["proxy"] == "https://go.example.com/m"
    assert found.box["sumdb"] == "sums.example.com https://sum.example.com/db"
    assert found.hosts == ["go.example.com", "sum.example.com"]
    assert "hunter2" not in repr(found)


# apt


def test_without_debians_archives_apt_allows_nothing(user: User, tmp_path: Path) -> None:
    """This machine is no Debian, or has one archive of the two: a note says what is missing."""
    found = apt.read(user, tmp_path)
    assert (found.hosts, found.box["archives"]) == ([], {})
    assert len(found.notes) == 1
    put(tmp_path, "sources.list", "deb http://apt.example.com/debian bookworm main\n")
    found = apt.read(user, tmp_path)
    assert found.hosts == ["apt.example.com"]
    assert "debian-security" in "".join(found.notes)


def test_apts_sources_of_both_kinds_are_read_and_put_on_https(user: User, tmp_path: Path) -> None:
    """Debian's archives alone count; disabled and other people's sources do not."""
    put(
        tmp_path,
        "sources.list",
        "# deb http://off.example.com/debian bookworm main\n"
        "deb [arch=amd64] http://u:hunter2@apt.example.com/debian bookworm main contrib\n"
        "deb https://other.example.com/linux/debian bookworm stable\n"
        "deb-src http://src.example.com/debian bookworm main\n",
    )
    put(
        tmp_path,
        "sources.list.d/x.sources",
        "Types: deb\nURIs: http://sec.example.com/debian-security\nSuites: bookworm-security\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://no.example.com/debian\nSuites: bookworm\n"
        "Components: main\n",
    )
    found = apt.read(user, tmp_path)
    assert found.box["archives"] == {
        "debian": "https://apt.example.com/debian",
        "debian-security": "https://sec.example.com/debian-security",
    }
    assert found.hosts == ["apt.example.com", "sec.example.com"]
    assert "hunter2" not in repr(found)


# Any content


FILES: list[tuple[str, Callable[[User], Found]]] = [
    (".npmrc", npm.read),
    (".config/pip/pip.conf", pip.read),
    (".cargo/config.toml", cargo.read),
    (".config/go/env", go.read),
    ("etc/sources.list", lambda user: apt.read(user, user.home / "etc")),
    ("etc/sources.list.d/x.sources", lambda user: apt.read(user, user.home / "etc")),
]
WORDS = st.sampled_from(
    [
        *("registry", "=", "https://a.example.com/", "[global]", "index-url", "extra-index-url"),
        *("%(x)s", "${HOME}", "\n", "\n\n", "[source.crates-io]", "replace-with", '"', "'", "[["),
        *("]]", "deb", "main", "bookworm", "URIs:", "Types:", "Suites:", ":", "GOPROXY=", "\0"),
        *("\ufeff", "\ud7ff", "file:///", "@a:registry=", "//x/:_authToken=", ",", "|"),
        *("[registries.a]", "index", "{"),
    ]
)
CONTENT = st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=300)


@pytest.mark.parametrize(("name", "read"), FILES, ids=[n for n, _ in FILES])
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_no_file_of_a_client_brings_the_reader_down(
    user: User, name: str, read: Callable[[User], Found], content: str
) -> None:
    """Any text in any file: an answer, with host names alone."""
    put(user.home, name, content)
    found = read(user)
    assert all(is_host_name(host) for host in found.hosts)
    json.dumps(found.box)


@pytest.mark.parametrize("answer", ["", "[]", "null", "{", '{"registry": 7}', "[" * 100_000])
def test_a_client_that_answers_nonsense_is_passed_over(
    home: Path, tmp_path: Path, answer: str
) -> None:
    """The files count then, as if the client were missing; what it leaves out allows nothing."""
    put(home, ".npmrc", "registry=https://a.example.com/\n")
    put(home, ".config/go/env", "GOPROXY=https://a.example.com/\n")
    for name in ("npm", "pip3", "go"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin/answer").write_text(answer)
        path = program(tmp_path / "bin", name, f"cat {tmp_path}/bin/answer")
    user = User({"HOME": str(home), "PATH": path})
    found = [read(user) for read in (npm.read, pip.read, go.read)]
    files = [] if answer == '{"registry": 7}' else ["a.example.com"]
    assert [one.hosts for one in found] == [files, [], files]
