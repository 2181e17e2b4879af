"""What is written into the box for its package clients, and what the agent is told of it."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path
from typing import Any

import pytest

from plandock.box.inside import clients
from plandock.runs.model import Run, RunId
from plandock.supervisor.briefing import prompt

PROXY = "http://127.0.0.1:3128"
WISH: dict[str, Any] = {
    "ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "npm": {
        "registry": "https://npm.example.com/",
        "scopes": {"@corp": "https://corp.example.com/"},
    },
    "pypi": {"index": "https://pip.example.com/simple", "extra": ["https://b.example.com/s"]},
    "crates": {
        "index": "sparse+https://cargo.example.com/",
        "registries": {"own": "https://git.example.com/i"},
    },
    "go": {"proxy": "https://go.example.com", "sumdb": "off", "nosumdb": ""},
    "debian": {"archives": {"debian": "https://apt.example.com/debian"}},
}
SOURCES = (
    "Types: deb\n# http://snapshot.example.com/debian/2025\nURIs: http://archive.example.com/debian\n"
    "Suites: bookworm\n\nTypes: deb\nURIs: http://archive.example.com/debian-security\n"
)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image's own files: certificates and apt's sources."""
    (tmp_path / "system.pem").write_text("SYSTEM\n")
    monkeypatch.setattr(clients, "SYSTEM_CA", str(tmp_path / "system.pem"))
    folder = tmp_path / "apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "debian.sources").write_text(SOURCES)
    return tmp_path


def set_up(system: Path, wish: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """The box's home after it was set up, and the agent's variables."""
    home = system / "home"
    return home, clients.set_up(str(home), PROXY, wish, str(system / "apt"))


def test_every_client_finds_its_mirror_and_the_way_out(system: Path) -> None:
    """Address, proxy and certificates, in each client's own words."""
    home, env = set_up(system, WISH)
    ca = f"{home}/.config/certificates.pem"
    npmrc = (home / ".npmrc").read_text().splitlines()
    assert {"registry=https://npm.example.com/", f"https-proxy={PROXY}", f"cafile={ca}"} <= set(
        npmrc
    )
    assert "@corp:registry=https://corp.example.com/" in npmrc
    pip = configparser.RawConfigParser()
    pip.read(home / ".config/pip/pip.conf")
    assert pip["global"]["index-url"] == "https://pip.example.com/simple"
    assert pip["global"]["extra-index-url"] == "https://b.example.com/s"
    assert (pip["global"]["proxy"], pip["global"]["cert"]) == (PROXY, ca)
    cargo = tomllib.loads((home / ".cargo/config.toml").read_text())
    replacing = cargo["source"]["crates-io"]["replace-with"]
    assert cargo["source"][replacing]["registry"] == "sparse+https://cargo.example.com/"
    assert cargo["registries"]["own"]["index"] == "https://git.example.com/i"
    assert cargo["net"]["git-fetch-with-cli"] is True
    assert (env["GOPROXY"], env["GOSUMDB"]) == ("https://go.example.com", "off")
    assert env["PIP_BREAK_SYSTEM_PACKAGES"] == "1"


def test_the_users_certificates_are_added_to_the_systems(system: Path) -> None:
    """One bundle of both; without any of the user's, the system's own is named."""
    home, env = set_up(system, WISH)
    bundle = (home / ".config/certificates.pem").read_text()
    assert bundle.startswith("SYSTEM")
    assert WISH["ca"] in bundle
    assert env["NODE_EXTRA_CA_CERTS"] == env["SSL_CERT_FILE"] == f"{home}/.config/certificates.pem"
    assert "SSL_CERT_FILE" not in set_up(system, {})[1]


def test_the_images_sources_of_packages_are_put_on_https_and_on_the_mirror(system: Path) -> None:
    """Debian's archive from where the user's machine has it, security by its own host."""
    home, env = set_up(system, WISH)
    text = (home / ".apt/sources.list.d/debian.sources").read_text()
    assert "URIs: https://apt.example.com/debian\n" in text
    assert "URIs: https://archive.example.com/debian-security\n" in text
    assert "http://" not in text
    assert env["APT_CONFIG"] == f"{home}/.apt/apt.conf"
    assert f'Dir::State "{home}/.apt/state";' in Path(env["APT_CONFIG"]).read_text()


def test_without_presets_there_are_proxy_settings_and_no_retries(system: Path) -> None:
    """What is refused by design is not asked for again."""
    home, env = set_up(system, {})
    npmrc = (home / ".npmrc").read_text()
    assert "registry=" not in npmrc
    assert "fetch-retries=0" in npmrc
    assert f"proxy={PROXY}" in npmrc
    assert "retries = 0" in (home / ".config/pip/pip.conf").read_text()
    assert "GOPROXY" not in env
    assert not (home / ".apt/sources.list.d/debian.sources").exists()


def test_a_clients_own_default_stays_where_nothing_is_known_and_goes_where_it_was_refused(
    system: Path,
) -> None:
    """No index of another's in the place of a refused one; no setting where none was found."""
    go = {"proxy": "", "sumdb": "", "nosumdb": ""}
    home, env = set_up(system, {"pypi": {"index": "", "extra": []}, "go": go})
    assert "index" not in (home / ".config/pip/pip.conf").read_text()
    assert not {"GOPROXY", "GOSUMDB", "GONOSUMDB"} & set(env)
    home, _ = set_up(system, {"pypi": {"index": None, "extra": []}})
    assert "no-index = true" in (home / ".config/pip/pip.conf").read_text()


def test_the_agent_is_told_what_it_can_reach_and_that_the_rest_is_refused() -> None:
    """Exactly the hosts by preset, no root, no retries; without presets the API alone."""
    run = Run(id=RunId("r222"), repo="/r", branch="b")
    alone = prompt(run)
    assert "no network except the model's own API. Every other host is refused" in alone
    run.reach = {"npm": ["npm.example.com"], "egress": ["a.example.com"]}
    told = prompt(run)
    assert "npm.example.com (npm install)" in told
    assert "a.example.com" in told
    for text in (alone, told):
        assert "do not retry" in text
        assert "without root" in text
