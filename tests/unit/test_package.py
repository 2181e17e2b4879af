"""The CLI's package: where it comes from, what is checked, what is kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from plandock import paths
from plandock.claude import package, registry
from plandock.errors import PlandockError

NAME = "@anthropic-ai/claude-code-linux-x64"
PROGRAM = b"#!/bin/sh\necho 1.2.3\n" * 5000


def tarball(*members: tuple[str, bytes | None]) -> bytes:
    """A gzipped tar; a member without content is a symbolic link to /etc/passwd."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.SYMTYPE
                info.linkname = "/etc/passwd"
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return made.getvalue()


GOOD = tarball(("package/package.json", b"{}"), ("../evil", b"no"), ("package/claude", PROGRAM))


def sri(data: bytes) -> str:
    """The integrity of some bytes, as a registry gives it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@dataclass
class FakeRegistry:
    """A registry on loopback: answers by path, and what it was asked."""

    address: str
    answers: dict[str, bytes | int] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def offer(self, version: str, data: bytes, integrity: str | None = None) -> None:
        """Publish a version."""
        dist = {"tarball": f"{self.address}/{version}.tgz", "integrity": integrity or sri(data)}
        text = json.dumps({"version": version, "dist": dist}).encode()
        self.answers[f"/@anthropic-ai%2fclaude-code-linux-x64/{version}"] = text
        self.answers[f"/{version}.tgz"] = data


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    """A registry that the environment names to npm, and no proxy before it."""
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name.lower().startswith("npm_config_"):
            monkeypatch.delenv(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization")))
            answer = made.answers.get(self.path, 404)
            if isinstance(answer, int):
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = FakeRegistry(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(fake: FakeRegistry, version: str = "1.2.3", **more: Any) -> package.CliPackage:
    """Fetch from the fake registry."""
    return package.fetch(version, "x64", registry_setting=fake.address, environ={}, **more)


def test_fetched_once_verified_and_executable(fake: FakeRegistry) -> None:
    """The program is taken from the verified package; a second call asks nobody."""
    fake.offer("1.2.3", GOOD)
    seen: list[tuple[int, int]] = []
    got = fetch(fake, progress=lambda done, total: seen.append((done, total)))
    assert got.path == paths.cache_dir() / "cli/1.2.3-x64/claude"
    assert got.path.read_bytes() == PROGRAM
    assert got.path.stat().st_mode & 0o777 == 0o755
    assert got.integrity == sri(GOOD)
    assert got.sha256 == hashlib.sha256(PROGRAM).hexdigest()
    assert seen[-1] == (len(GOOD), len(GOOD))
    assert sorted(x.name for x in got.path.parent.iterdir()) == ["claude", "package.json"]
    asked = len(fake.asked)
    assert fetch(fake) == package.cached("1.2.3", "x64") == got
    assert len(fake.asked) == asked == 2


def test_wrong_hash_leaves_nothing(fake: FakeRegistry) -> None:
    """A package that differs from its announced hash is refused and no byte of it stays."""
    fake.offer("1.2.3", GOOD, integrity=sri(b"something else"))
    with pytest.raises(PlandockError, match="does not match"):
        fetch(fake)
    assert package.cached("1.2.3", "x64") is None
    assert list((paths.cache_dir() / "cli/1.2.3-x64").iterdir()) == []


@pytest.mark.parametrize(
    ("integrity", "why"),
    [("sha1-abc", "weak"), ("sha512-!!!", "no base64"), ("sha512-AAAA", "too short")],
)
def test_only_sha512_vouches(fake: FakeRegistry, integrity: str, why: str) -> None:
    """An integrity that is missing, weak or malformed is as good as none."""
    fake.offer("1.2.3", GOOD, integrity=integrity)
    with pytest.raises(PlandockError, match="no sha512"):
        fetch(fake)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tarball(("package/claude", None)), "no ordinary file"),
        (tarball(("package/other", b"x")), "holds no package/claude"),
        (tarball(("./package/../package/claude", b"x")), "holds no package/claude"),
        (b"this is no tarball", "cannot be unpacked"),
        (GOOD[: len(GOOD) // 2], "cannot be unpacked"),
    ],
)
def test_odd_packages(fake: FakeRegistry, data: bytes, message: str) -> None:
    """A package without exactly the one ordinary file is refused, even with a right hash."""
    fake.offer("1.2.3", data)
    with pytest.raises(PlandockError, match=message):
        fetch(fake)
    assert package.cached("1.2.3", "x64") is None


def test_package_that_unpacks_to_too_much(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are bounded, packed and unpacked."""
    fake.offer("1.2.3", GOOD)
    monkeypatch.setattr(package, "_UNPACKED_BYTES", 1000)
    with pytest.raises(PlandockError, match="too much"):
        fetch(fake)
    monkeypatch.setattr(package, "_PACKAGE_BYTES", 10)
    with pytest.raises(PlandockError, match="larger"):
        fetch(fake)


def test_version_that_is_not_there(fake: FakeRegistry) -> None:
    """A version that the registry lacks gives one line with package, version and host."""
    with pytest.raises(PlandockError) as caught:
        fetch(fake, "9.9.9")
    assert f"127.0.0.1 has no {NAME} 9.9.9" in caught.value.message
    assert caught.value.hint


def test_mirror_that_knows_whole_packages_only(fake: FakeRegistry) -> None:
    """Where a version cannot be asked for alone, it is found in the whole package's answer."""
    fake.offer("1.2.3", GOOD)
    one = fake.answers.pop("/@anthropic-ai%2fclaude-code-linux-x64/1.2.3")
    assert isinstance(one, bytes)
    whole = {"versions": {"1.2.3": json.loads(one)}}
    fake.answers["/@anthropic-ai%2fclaude-code-linux-x64"] = json.dumps(whole).encode()
    assert fetch(fake).integrity == sri(GOOD)


def test_registry_that_is_away() -> None:
    """A registry that cannot be reached is named by its host, with a hint."""
    with pytest.raises(PlandockError, match=r"127\.0\.0\.1 cannot be reached") as caught:
        package.fetch("1.2.3", "x64", registry_setting="http://me:secret@127.0.0.1:9", environ={})
    assert "secret" not in caught.value.message + caught.value.hint


def test_login_goes_to_the_registry_alone(fake: FakeRegistry, home: Path) -> None:
    """The token of ~/.npmrc is sent to the registry, and not to where its files lie elsewhere."""
    host = fake.address.removeprefix("http://")
    (home / ".npmrc").write_text(
        f"; comment\nregistry=http://127.0.0.1:9/\n@anthropic-ai:registry = {fake.address}/\n"
        f'//{host}/:_authToken="${{WORD}}"\n'
    )
    fake.offer("1.2.3", GOOD)
    package.fetch("1.2.3", "x64", environ={"WORD": "made-up"})
    assert [login for _, login in fake.asked] == ["Bearer made-up", "Bearer made-up"]
    elsewhere = fake.address.replace("127.0.0.1", "localhost")
    key = "/@anthropic-ai%2fclaude-code-linux-x64/1.2.4"
    dist = {"tarball": f"{elsewhere}/1.2.3.tgz", "integrity": sri(GOOD)}
    fake.answers[key] = json.dumps({"dist": dist}).encode()
    package.fetch("1.2.4", "x64", environ={"WORD": "made-up"})
    assert [login for _, login in fake.asked[2:]] == ["Bearer made-up", None]


def test_refused_login(fake: FakeRegistry) -> None:
    """A registry that wants a login says so, with the file to look at."""
    fake.answers["/@anthropic-ai%2fclaude-code-linux-x64/1.2.3"] = 401
    with pytest.raises(PlandockError, match="401") as caught:
        fetch(fake)
    assert ".npmrc" in caught.value.hint


def test_order_of_registries(home: Path) -> None:
    """Setting, scope's registry, environment, ~/.npmrc: the first that speaks is taken."""
    env = {"NPM_CONFIG_REGISTRY": "https://env.example"}
    assert registry.find(env, "https://set.example/x/").address == "https://set.example/x"
    assert registry.find(env).address == "https://env.example"
    (home / ".npmrc").write_text("registry=https://file.example/npm/\ncafile=/ca.pem\n")
    assert registry.find(env).address == "https://env.example"
    assert registry.find({}).address == "https://file.example/npm"
    assert registry.find({}).ca_file == "/ca.pem"
    with open(home / ".npmrc", "a") as file:
        file.write("@anthropic-ai:registry=https://scope.example\n")
    assert registry.find(env).address == "https://scope.example"
    other = home / "other"
    other.write_text("registry=https://other.example")
    assert registry.find({"npm_config_userconfig": str(other)}).address == "https://other.example"


def test_login_by_longest_path(home: Path) -> None:
    """npm keys a login by address without scheme; the nearest one above the registry counts."""
    (home / ".npmrc").write_text("//r.example/a/:_auth=QQ==\n//r.example/a/b/:_authToken=t\n")
    assert registry.find({}, "https://r.example/a/b/").authorization == "Bearer t"
    assert registry.find({}, "https://r.example/a/c").authorization == "Basic QQ=="
    assert registry.find({}, "https://r.example/").authorization == ""
    assert "Bearer" not in repr(registry.find({}, "https://r.example/a/b/"))


def test_nobody_knows_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm and without a setting there is one line and the next step, and no guess."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlandockError, match="not known") as caught:
        registry.find({})
    assert "npm_registry" in caught.value.hint


def test_npm_is_asked_outside_any_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What npm itself says is the last resort, and a repository's .npmrc has no say in it."""
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\npwd >"${0%npm}cwd"\necho \'{"registry":"https://npm.example/"}\'\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert registry.find({}).address == "https://npm.example"
    assert (tmp_path / "cwd").read_text() == "/\n"


def test_changed_cache_is_noticed(fake: FakeRegistry) -> None:
    """A program that was changed in the cache is thrown away before it gets into an image."""
    fake.offer("1.2.3", GOOD)
    got = fetch(fake)
    package.verify(got)
    got.path.write_bytes(PROGRAM[:-1] + b"!")
    with pytest.raises(PlandockError, match="changed on disk"):
        package.verify(got)
    assert package.cached("1.2.3", "x64") is None


def test_adopted_program(tmp_path: Path) -> None:
    """A program that is here already can be put into the cache without any registry."""
    program = tmp_path / "claude"
    program.write_bytes(PROGRAM)
    got = package.adopt("1.2.3", "arm64", program)
    assert got.path.read_bytes() == PROGRAM
    assert got.integrity.startswith("sha256-")
    assert package.cached("1.2.3", "arm64") == got
    assert package.cached("1.2.3", "x64") is None


@pytest.mark.parametrize("version", ["../../etc", "1.2", "1.2.3/..", "latest", ""])
def test_odd_versions(version: str) -> None:
    """What is no version names no folder of the cache."""
    with pytest.raises(PlandockError, match="no version"):
        package.cached(version, "x64")
    with pytest.raises(PlandockError, match="riscv64"):
        package.package_name("riscv64")


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm says where packages come from")
def test_real_registry() -> None:
    """The real package of 2.1.197 comes from the registry of npm here and matches its hash."""
    got = package.fetch("2.1.197", "x64")
    assert got.path.stat().st_size > 100 << 20
    assert got.path.read_bytes()[:4] == b"\x7fELF"
    local = os.environ.get("PLANDOCK_TEST_CLI_2_1_197")
    if local:
        assert package.digest(Path(local)) == got.sha256
