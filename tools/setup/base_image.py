"""The base image in every engine: present, copied, pulled, or built from Debian packages."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tools.setup.commands import (
    SetupError,
    apt_install,
    as_root,
    attempt,
    environment,
    have,
    last_line,
    require,
    say,
)
from tools.setup.folder import record_env, setup_dir

IMAGE = "debian:bookworm-slim"
SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PULL_WITHIN_S = 60.0


def present(engine: str) -> bool:
    """Whether the engine has the base image; Podman looks under `localhost/` too."""
    return attempt([engine, "image", "inspect", IMAGE]).returncode == 0


def ensure(engines: tuple[str, ...]) -> None:
    """Put the base image into each engine by the cheapest way that works.

    Raises `SetupError` with the last way's complaint where none does.
    """
    for engine in engines:
        if present(engine):
            say(f"{engine}: {IMAGE} is there")
        elif donor := next((x for x in engines if x != engine and present(x)), None):
            say(f"{engine}: copying {IMAGE} from {donor}")
            _copy(donor, engine)
        else:
            say(f"{engine}: pulling {IMAGE}")
            pulled = attempt([engine, "pull", "-q", IMAGE], timeout_s=PULL_WITHIN_S)
            if pulled.returncode != 0:
                say(f"{engine}: no registry ({last_line(pulled)[-120:]})")
                _import(engine, _archive())
        if not present(engine):
            raise SetupError(f"{engine} does not have {IMAGE}", f"run `{engine} pull {IMAGE}`")
    record_env({"PLANDOCK_TEST_BASE_IMAGE": IMAGE})


def _copy(donor: str, engine: str) -> None:
    with tempfile.TemporaryDirectory(dir=setup_dir()) as scratch:
        archive = Path(scratch, "image.tar")
        hint = f"run `{engine} pull {IMAGE}`"
        require([donor, "save", "-o", archive, IMAGE], hint=hint)
        require([engine, "load", "-q", "-i", archive], hint=hint)


def _import(engine: str, archive: Path) -> None:
    hint = f"see whether `{engine} info` works"
    require([engine, "import", "--change", 'CMD ["bash"]', archive, IMAGE], hint=hint)


def _archive() -> Path:
    """The root file system as a tar archive, built once and kept."""
    archive = setup_dir() / f"base-{SUITE}.tar"
    if archive.exists():
        return archive
    if not have("mmdebstrap"):
        apt_install(["mmdebstrap", "debian-archive-keyring"], "base image")
    prefix = as_root()
    say(f"building {IMAGE} from Debian packages, about a minute")
    sources = _sources()
    draft = archive.with_suffix(f".{os.getpid()}")
    # Left out as in Debian's own slim images: what only people at a terminal read.
    slim = ["doc", "info", "man", "locale"]
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{x}/*" for x in slim]
    argv = [*prefix, "mmdebstrap", "--variant=minbase", "--format=tar", *excludes]
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--include=ca-certificates"]
    # As in Debian's own images: a layer that is half built is thrown away, so none is synced.
    argv.append("--dpkgopt=force-unsafe-io")
    # The sources go in by standard input: a private mirror's address may hold a password.
    with draft.open("wb") as output:
        try:
            done = subprocess.run(
                [*argv, SUITE, "-", "-"],
                input=sources.encode(),
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=900,
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(argv, 124, b"", b"no end within 900 s")
    if done.returncode != 0:
        draft.unlink()
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise SetupError(
            f"the base image could not be built: {lines[-1][:300]}",
            f"give the engine an image named {IMAGE} yourself",
        )
    draft.replace(archive)
    return archive


def _sources() -> str:
    """apt sources for the image: Debian's, from the mirrors that this machine uses.

    What apt itself says is asked, not its files, which come in two formats and many places.
    """
    mirrors = _mirrors()
    if "Debian" not in mirrors:
        # Fresh machines and images come without package lists, and origins are told by those.
        attempt([*as_root(), "apt-get", "-q", "update"], timeout_s=300)
        mirrors = _mirrors()
    if "Debian" not in mirrors:
        raise SetupError(
            f"{IMAGE} can be neither pulled nor built: apt has no Debian source here",
            f"give the engine an image named {IMAGE} yourself",
        )
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = [f"deb {signed}{mirrors['Debian']} {x} main" for x in (SUITE, f"{SUITE}-updates")]
    if "Debian-Security" in mirrors:
        lines.append(f"deb {signed}{mirrors['Debian-Security']} {SUITE}-security main")
    return "\n".join([*lines, ""])


def _mirrors() -> dict[str, str]:
    """Addresses of Debian's archives by label (`Debian`, `Debian-Security`), as apt has them."""
    fields = "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(CREATED_BY)"
    told = attempt(["apt-get", "indextargets", "--format", fields])
    found: dict[str, str] = {}
    for line in told.stdout.splitlines():
        origin, label, address, kind = line.split("|")
        if origin == "Debian" and kind == "Packages":
            found.setdefault(label, address)
    return found
