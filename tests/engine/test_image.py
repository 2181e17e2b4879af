"""The image of the box, built for real in both engines."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from plandock.box import image
from plandock.claude import package
from plandock.engines import detect
from plandock.engines.protocol import ContainerSpec, ContextFile, Engine, Image
from plandock.errors import EngineError, SettingsError
from tests.support import machine
from tests.support.journal import note

VERSION = "2.1.197"
APT = "Reading package lists"
pytestmark = pytest.mark.timeout(1800)


MakeCli = Callable[..., str]


@pytest.fixture
def made() -> list[str]:
    """The versions of the programs that this test makes in the CLI's place."""
    return []


@pytest.fixture
def user_base() -> str:
    """A name for a base image of this test's own."""
    return f"plandock-test-base:{secrets.token_hex(4)}"


@pytest.fixture
def here(engine: str, home: Path, made: list[str], user_base: str) -> Iterator[Engine]:
    """The engine of that name; images that the test makes are removed again.

    What another test or run has built meanwhile is not this test's to remove, so its own are
    told by the CLI's version.
    """
    found = detect.choose(engine)
    yield found
    found.remove_image(user_base)
    for entry in of_this_test(image.list_images(found), made):
        for name in entry.tags or (entry.id,):
            found.remove_image(name)


def of_this_test(images: Iterable[Image], made: list[str]) -> tuple[Image, ...]:
    """The images with one of this test's programs in the CLI's place."""
    return tuple(x for x in images if x.labels[image.VERSION_LABEL] in made)


@pytest.fixture
def small_cli(tmp_path: Path, made: list[str]) -> MakeCli:
    """A factory: puts a program that only says a version into the cache; that version, a new one,
    unless it `says` something else."""

    def make(says: str = "") -> str:
        version = f"0.{secrets.randbelow(10**6)}.{secrets.randbelow(10**6)}"
        note("name", version)
        program = tmp_path / f"claude-{version}"
        program.write_text(f"#!/bin/sh\necho '{says or version} (Claude Code)'\n")
        for architecture in package.ARCHITECTURES:
            package.adopt(version, architecture, program)
        made.append(version)
        return version

    return make


def run(engine: Engine, tag: str, script: str) -> list[str]:
    """What a shell script says, line by line, in a container of the image."""
    name = f"plandock-test-{secrets.token_hex(4)}"
    return engine.run(ContainerSpec(name, tag, ("sh", "-c", script))).text.splitlines()


def test_what_is_in_the_image(here: Engine, base_image: str) -> None:
    """The image holds the real CLI, the tools and the scripts, and no way to become root."""
    path = os.environ.get("PLANDOCK_TEST_CLI_2_1_197")
    if not path:
        pytest.fail("PLANDOCK_TEST_CLI_2_1_197 is not set. Next step: `make setup`", pytrace=False)
    package.adopt(VERSION, here.architecture(), Path(path))
    tag = image.ensure_image(here, cli_version=VERSION, base=base_image)
    script = (
        "id; HOME=/dev/shm claude --version; stat -c '%U %a' /usr/local/bin/claude /root;"
        "for p in git rg jq python3 setpriv; do command -v $p >/dev/null || echo no $p; done;"
        "ls /usr/bin/tini; find / -xdev ! -type l -perm /6000 2>/dev/null;"
        "PYTHONPATH=/opt/plandock/lib python3 -c 'import h11; print(h11.__file__)';"
        "find /opt/plandock ! -user root; ls /opt/plandock/*.py"
    )
    said = run(here, tag, script)
    assert said[:6] == [
        "uid=1000(agent) gid=1000(agent) groups=1000(agent)",
        f"{VERSION} (Claude Code)",
        "root 755",
        "root 755",
        "/usr/bin/tini",
        "/opt/plandock/lib/h11/__init__.py",
    ]
    scripts = {Path(line).name for line in said[6:]}
    assert {"gateway.py", "harvest.py", "stage.py", "steward.py"} <= scripts
    assert "__init__.py" not in scripts


def test_built_once(here: Engine, base_image: str, small_cli: MakeCli) -> None:
    """Two that need an image at one time build it once; a third finds it and says nothing."""
    version = small_cli()
    lines: list[str] = []
    tags: list[str] = []

    def ensure() -> None:
        tags.append(
            image.ensure_image(here, cli_version=version, base=base_image, progress=lines.append)
        )

    threads = [threading.Thread(target=ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tags) == 2
    assert len(set(tags)) == 1
    assert len([line for line in lines if line.startswith("Building the image")]) == 1
    said = len(lines)
    ensure()
    assert len(lines) == said
    (entry,) = [x for x in image.list_images(here) if tags[0] in x.tags]
    assert entry.labels[image.VERSION_LABEL] == version


def test_only_what_changed_is_built(
    here: Engine,
    base_image: str,
    small_cli: MakeCli,
    made: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a new CLI nor a changed script runs the package manager again."""
    first = image.ensure_image(here, cli_version=small_cli(), base=base_image)
    version = small_cli()
    lines: list[str] = []
    second = image.ensure_image(here, cli_version=version, base=base_image, progress=lines.append)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/extra.py").write_text("print('extra')\n")
    monkeypatch.setattr(image, "_INSIDE", (*image._INSIDE, tmp_path / "inside"))
    third = image.ensure_image(here, cli_version=version, base=base_image, progress=lines.append)
    assert len({first, second, third}) == 3
    assert lines
    assert not any(APT in line for line in lines)
    assert run(here, third, "python3 -I /opt/plandock/extra.py") == ["extra"]
    # What other tests build meanwhile is nothing to be removed here.
    every = image.list_images
    monkeypatch.setattr(image, "list_images", lambda engine: of_this_test(every(engine), made))
    tagged = {tag for entry in image.list_images(here) for tag in entry.tags}
    removed = image.remove_stale(here, tagged - {second})
    # Beside it, at most what has no name any more, of builds that were begun twice.
    assert set(removed) & tagged == {second}
    assert not here.image_exists(second)
    assert here.image_exists(third)


def test_cli_that_says_another_version(here: Engine, base_image: str, small_cli: MakeCli) -> None:
    """A program that is not the version asked for gets into no image."""
    version = small_cli(says="1.1.1")
    with pytest.raises(EngineError, match="build failed") as caught:
        image.ensure_image(here, cli_version=version, base=base_image)
    assert "says '1.1.1 (Claude Code)'" in caught.value.hint


def test_base_with_its_own_user(
    here: Engine,
    base_image: str,
    user_base: str,
    small_cli: MakeCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A base whose user 1000 has another name, groups and an entrypoint works just the same."""
    # Upon one with the packages: it is the user that is tried here, not the package manager.
    with monkeypatch.context() as patch:
        cache = os.environ.get("PLANDOCK_TEST_CACHE", str(machine.CLONE / ".setup/cache"))
        patch.setenv("XDG_CACHE_HOME", cache)
        newest = os.environ["PLANDOCK_TEST_CLI_NEWEST_VERSION"]
        packed = image.ensure_image(here, cli_version=newest, base=base_image)
    dockerfile = (
        f"FROM {packed}\nUSER root\n"
        "RUN userdel agent && rm -r /home/agent /opt/plandock /usr/local/bin/claude"
        " && groupadd -g 1000 node && useradd -m -u 1000 -g node node && groupadd wheel"
        " && usermod -aG wheel node && chmod u+s /bin/sleep\n"
        'USER node\nWORKDIR /home/node\nENTRYPOINT ["/bin/false"]\n'
    )
    here.build(
        user_base,
        [ContextFile("Dockerfile", dockerfile.encode())],
        build_args={},
        labels={},
        progress=lambda line: None,
    )
    tag = image.ensure_image(here, cli_version=small_cli(), base=user_base)
    said = run(here, tag, "id; pwd; getent passwd 1000; stat -c %a /bin/sleep")
    assert said == [
        "uid=1000(agent) gid=1000(agent) groups=1000(agent)",
        "/",
        said[2],
        "755",
    ]
    assert said[2].startswith("agent:x:1000:1000:")
    assert said[2].endswith(":/home/agent:/bin/bash")


def test_package_that_does_not_exist(here: Engine, base_image: str, small_cli: MakeCli) -> None:
    """A package that Debian lacks fails the build with apt's own words as the hint."""
    with pytest.raises(EngineError) as caught:
        image.ensure_image(
            here,
            cli_version=small_cli(),
            base=base_image,
            extra_packages=["no-such-package-anywhere"],
        )
    assert "no-such-package-anywhere" in caught.value.hint


def test_names_that_are_no_packages(here: Engine, base_image: str) -> None:
    """What is no package's name is refused before it gets near a shell."""
    for name in ("a; reboot", "--allow-unauthenticated", "$(id)", "", "../x"):
        with pytest.raises(SettingsError):
            image.ensure_image(here, cli_version=VERSION, base=base_image, extra_packages=[name])


def test_base_that_is_not_there(here: Engine, small_cli: MakeCli) -> None:
    """A base that cannot be had is named, with what to do about it."""
    with pytest.raises(EngineError, match="localhost:9/no/base") as caught:
        image.ensure_image(here, cli_version=small_cli(), base="localhost:9/no/base:1")
    assert "setting image" in caught.value.hint
