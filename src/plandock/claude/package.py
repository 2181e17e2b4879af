"""The CLI for the box: its npm platform package, fetched on the user's machine and verified.

The image carries the CLI for Linux on the engine's architecture, which need not be the host's.
The package is asked of the registry that the user's own npm is set up for; the registry's
integrity hash (sha512) must match before anything of it is unpacked.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from plandock import paths
from plandock.claude import registry
from plandock.claude.registry import Registry
from plandock.errors import PlandockError

ARCHITECTURES = ("x64", "arm64")
_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}(-[0-9A-Za-z.-]{1,40})?")
_MEMBER = "package/claude"
_METADATA_BYTES = 128 << 20
_PACKAGE_BYTES = 1 << 30
_UNPACKED_BYTES = 2 << 30
_BLOCK = 1 << 20

Progress = Callable[[int, int], None]
"""Bytes done and bytes in all (0 where that is not known)."""


class NoSuchVersion(PlandockError):
    """The registry does not have that version."""


@dataclass(frozen=True)
class CliPackage:
    """A CLI that is ready to go into an image.

    ``integrity`` names the content (an SRI hash of what it came from); ``sha256`` is the hex
    digest of the program file itself.
    """

    version: str
    architecture: str
    path: Path
    integrity: str
    sha256: str


def package_name(architecture: str) -> str:
    """The npm package that holds the native program for Linux (shared facts, section 7)."""
    if architecture not in ARCHITECTURES:
        raise PlandockError(f"there is no Claude Code for Linux on {architecture}")
    return f"@anthropic-ai/claude-code-linux-{architecture}"


def cached(version: str, architecture: str) -> CliPackage | None:
    """The CLI as it lies in the cache, or ``None``; a partly written one counts as none."""
    folder = _folder(version, architecture)
    try:
        found = json.loads((folder / "package.json").read_bytes())
        size = (folder / "claude").stat().st_size
        if size != found["size"]:
            return None
        return CliPackage(
            version, architecture, folder / "claude", str(found["integrity"]), str(found["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch(
    version: str,
    architecture: str,
    *,
    registry_setting: str = "",
    environ: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> CliPackage:
    """The CLI at exactly this version for Linux, from the cache or else from the registry.

    ``registry_setting`` is the setting ``npm_registry``; empty, the user's npm configuration is
    asked.  Raises :class:`PlandockError` where the registry is unknown, cannot be reached, does
    not have the version, or sends something that does not match its own hash.
    """
    name = package_name(architecture)
    folder = _folder(version, architecture)
    with locked(paths.cache_dir() / "cli.lock"):
        known = cached(version, architecture)
        if known is not None:
            return known
        source = registry.find(environ, registry_setting)
        tarball, integrity = _metadata(source, name, version)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{secrets.token_hex(4)}.tgz"
        try:
            _download(source, tarball, part, integrity, progress)
            with _replacing(folder / "claude") as target:
                sha256 = _unpack(part, target)
        finally:
            part.unlink(missing_ok=True)
        return _record(folder, version, architecture, integrity, sha256)


def adopt(version: str, architecture: str, binary: Path) -> CliPackage:
    """Put a CLI that is on this machine already into the cache (tests, machines without npm).

    Nothing but the caller vouches for it; the image's build still checks that it says ``version``.
    """
    package_name(architecture)
    folder = _folder(version, architecture)
    with locked(paths.cache_dir() / "cli.lock"):
        known = cached(version, architecture)
        if known is not None:
            return known
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(folder / "claude") as target:
            target.unlink()
            try:
                os.link(os.path.realpath(binary), target)
            except OSError:
                shutil.copyfile(binary, target)
        sha256 = digest(folder / "claude")
        own = "sha256-" + base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
        return _record(folder, version, architecture, own, sha256)


def verify(package: CliPackage) -> None:
    """Raise :class:`PlandockError` where the cached file is no longer what was recorded."""
    if digest(package.path) != package.sha256:
        shutil.rmtree(package.path.parent, ignore_errors=True)
        raise PlandockError(
            f"the cached Claude Code {package.version} was changed on disk; it has been removed",
            hint="try again: it will be fetched anew",
        )


def digest(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(version: str, architecture: str) -> Path:
    if not _VERSION.fullmatch(version):
        raise PlandockError(f"{version!r} is no version of Claude Code")
    return paths.cache_dir() / "cli" / f"{version}-{architecture}"


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file; ``waiting`` is called once where somebody else has it first."""
    paths.make_private(path.parent)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if waiting is not None:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """An empty file beside ``target`` that takes its place, executable, if all goes well."""
    beside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    beside.touch()
    try:
        yield beside
        beside.chmod(0o755)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _record(
    folder: Path, version: str, architecture: str, integrity: str, sha256: str
) -> CliPackage:
    program = folder / "claude"
    facts = {"integrity": integrity, "sha256": sha256, "size": program.stat().st_size}
    with _replacing(folder / "package.json") as target:
        target.write_text(json.dumps(facts) + "\n")
    return CliPackage(version, architecture, program, integrity, sha256)


def _metadata(source: Registry, name: str, version: str) -> tuple[str, str]:
    """The address and the integrity of one version, by npm's registry protocol.

    Asked by version first; a mirror that knows only whole packages is asked for the package.
    """
    base = f"{source.address}/{name.replace('/', '%2f')}"
    found = _json(source, f"{base}/{version}")
    if found is None:
        whole = _json(source, base) or {}
        versions = whole.get("versions")
        found = versions.get(version) if isinstance(versions, dict) else None
    dist = found.get("dist") if isinstance(found, dict) else None
    if not isinstance(dist, dict):
        raise NoSuchVersion(
            f"the npm registry {source.shown} has no {name} {version}",
            hint="update Claude Code on this machine, or set npm_registry",
        )
    integrity = _sha512(str(dist.get("integrity") or ""))
    tarball = str(dist.get("tarball") or "")
    if not integrity or not tarball.startswith(("https://", "http://")):
        raise PlandockError(
            f"the npm registry {source.shown} gives no sha512 for {name} {version}",
            hint="set npm_registry to one that does",
        )
    return tarball, integrity


def _sha512(integrity: str) -> str:
    """Of the hashes in an SRI string, the sha512; empty where there is none."""
    for part in integrity.split():
        value = part.partition("?")[0]
        if value.startswith("sha512-"):
            try:
                if len(base64.b64decode(value[7:], validate=True)) == 64:
                    return value
            except binascii.Error:
                continue
    return ""


def _json(source: Registry, address: str) -> dict[str, Any] | None:
    with registry.open_address(source, address) as answer:
        if answer is None:
            return None
        data = answer.read(_METADATA_BYTES + 1)
    if len(data) > _METADATA_BYTES:
        raise PlandockError(f"the npm registry {source.shown} sent too long an answer")
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PlandockError(f"the npm registry {source.shown} sent an unreadable answer")
    return found


def _download(
    source: Registry, address: str, part: Path, integrity: str, progress: Progress | None
) -> None:
    """Stream a tarball to disk; raises unless its sha512 is the one announced."""
    check = hashlib.sha512()
    done = 0
    with registry.open_address(source, address) as answer, open(part, "wb") as file:
        if answer is None:
            raise PlandockError(f"the npm registry {source.shown} announces a missing file")
        length = answer.headers.get("Content-Length") or "0"
        total = int(length) if length.isdigit() else 0
        while block := registry.read_block(source, answer, _BLOCK):
            done += len(block)
            if done > _PACKAGE_BYTES:
                raise PlandockError(f"the package of Claude Code is larger than {_PACKAGE_BYTES} B")
            check.update(block)
            file.write(block)
            if progress is not None:
                progress(done, max(total, done))
    found = "sha512-" + base64.b64encode(check.digest()).decode("ascii")
    if found != integrity:
        raise PlandockError(
            f"what {source.shown} sent for Claude Code does not match its own hash",
            hint="try again; if it stays so, a proxy or mirror changes the package",
        )


def _unpack(part: Path, target: Path) -> str:
    """Write the one program of a verified tarball to ``target``; returns its sha256."""
    seen = 0
    try:
        with tarfile.open(part, mode="r|gz") as tar:
            for member in tar:
                seen += member.size
                if seen > _UNPACKED_BYTES:
                    raise PlandockError("the package of Claude Code unpacks to too much")
                if member.name != _MEMBER:
                    continue
                if not member.isreg():
                    raise PlandockError(f"{_MEMBER} of the package is no ordinary file")
                source = tar.extractfile(member)
                assert source is not None
                return _copy(source, target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PlandockError(f"the package of Claude Code cannot be unpacked: {error}") from error
    raise PlandockError(f"the package of Claude Code holds no {_MEMBER}")


def _copy(source: IO[bytes], target: Path) -> str:
    check = hashlib.sha256()
    with open(target, "wb") as file:
        while block := source.read(_BLOCK):
            check.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return check.hexdigest()
