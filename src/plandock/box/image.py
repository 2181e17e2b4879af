"""The image of box and gateway: built on the user's machine, named by its content.

The tag is a hash of everything that goes in, so that whether it must be built is one question to
the engine, and two versions of the CLI, of the scripts or of the base never share an image.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plandock import paths
from plandock.claude import package
from plandock.claude.package import CliPackage
from plandock.engines.protocol import ContextFile, Engine, Image
from plandock.errors import EngineError, SettingsError

NAME = "plandock-box"
LABEL = "plandock.image"
VERSION_LABEL = "plandock.cli"

_HERE = Path(__file__).resolve().parent
_INSIDE = tuple(
    _HERE.parent / part / "inside" for part in ("box", "gateway", "settings", "workspace")
)
# A name of a Debian package, with a version where wanted (Debian policy, 5.6.1 and 5.6.12).
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Recipe:
    """What an image is made of; equal recipes are equal images."""

    base: str
    base_id: str
    cli: CliPackage
    packages: tuple[str, ...]
    node: bool
    files: tuple[ContextFile, ...]

    @property
    def tag(self) -> str:
        """``plandock-box:`` and a hash of the content."""
        facts = {
            "base": [self.base, self.base_id],
            "cli": [self.cli.version, self.cli.architecture, self.cli.integrity],
            "packages": self.packages,
            "node": self.node,
            "files": [
                [f.name, f.mode, hashlib.sha256(_content(f)).hexdigest()] for f in self.files
            ],
        }
        text = json.dumps(facts, sort_keys=True).encode()
        return f"{NAME}:{hashlib.sha256(text).hexdigest()[:20]}"


def ensure_image(
    engine: Engine,
    *,
    cli_version: str,
    base: str = "debian:bookworm-slim",
    extra_packages: Sequence[str] = (),
    node: bool = False,
    npm_registry: str = "",
    progress: Progress = lambda line: None,
) -> str:
    """The tag of the image for this CLI version and base, which is built if it is not there.

    Where it is there, this asks the engine twice and reads a few small files.  ``progress`` gets
    lines for people while something is fetched or built, and may be called from other threads.
    Raises :class:`EngineError` with the build's last lines as its hint, and
    :class:`plandock.errors.PlandockError` where the CLI cannot be had.
    """
    for name in extra_packages:
        if not _PACKAGE.fullmatch(name):
            raise SettingsError(f"{name!r} is no name of a Debian package")
    wanted = tuple(sorted(set(extra_packages)))

    def recipe() -> _Recipe | None:
        base_id = engine.image_id(base)
        name = engine.local_name(base) if base_id is None else base
        cli = package.cached(cli_version, engine.architecture())
        if name is None or cli is None:
            return None
        if base_id is None:
            base_id = engine.image_id(name) or ""
        return _Recipe(name, base_id, cli, wanted, node, tuple(_scripts()))

    made = recipe()
    if made is not None and engine.image_exists(made.tag):
        return made.tag
    waiting = "Another run is building the image; waiting for it."
    with package.locked(paths.state_dir() / "image.lock", lambda: progress(waiting)):
        if engine.local_name(base) is None:
            _pull(engine, base, progress)
        package.fetch(
            cli_version,
            engine.architecture(),
            registry_setting=npm_registry,
            progress=_percent(f"Fetching Claude Code {cli_version}", progress),
        )
        made = recipe()
        if made is None:
            raise EngineError(f"the base image {base} is gone again")
        if not engine.image_exists(made.tag):
            _build(engine, made, progress)
    return made.tag


def list_images(engine: Engine) -> tuple[Image, ...]:
    """Every image that plandock has made in this engine."""
    return engine.images(f"{LABEL}=1")


def remove_stale(engine: Engine, keep: Collection[str]) -> tuple[str, ...]:
    """Remove every image of plandock's but those with a tag in ``keep``; returns what went.

    An image that a container still uses stays (and is not in the answer).
    """
    wanted = set(keep)
    stale = [image for image in list_images(engine) if not wanted.intersection(image.tags)]
    for image in stale:
        for name in image.tags or (image.id,):
            engine.remove_image(name)
    left = {image.id for image in list_images(engine)}
    return tuple(
        name for image in stale if image.id not in left for name in image.tags or (image.id,)
    )


def _build(engine: Engine, recipe: _Recipe, progress: Progress) -> None:
    progress(f"Building the image of the box on {recipe.base} (once; a minute or two)")
    package.verify(recipe.cli)
    program = ContextFile("claude", recipe.cli.path, 0o755)
    engine.build(
        recipe.tag,
        (*recipe.files, program),
        build_args={
            "BASE": recipe.base,
            "PACKAGES": " ".join(recipe.packages),
            "NODE": "1" if recipe.node else "0",
            "CLI_VERSION": recipe.cli.version,
        },
        labels={LABEL: "1", VERSION_LABEL: recipe.cli.version},
        progress=progress,
    )
    if not engine.image_exists(recipe.tag):
        raise EngineError(
            f"{engine.name} built the image {recipe.tag} but does not have it",
            hint="its builder keeps images to itself: `docker buildx use default`",
        )


def _pull(engine: Engine, base: str, progress: Progress) -> None:
    progress(f"Fetching the base image {base}")
    try:
        engine.pull(base, progress)
    except EngineError as error:
        raise type(error)(
            f"the base image {base} is not in {engine.name} and cannot be fetched: {error.message}",
            hint=f"make it available (`{engine.name} pull …`, `load` or `import`), "
            "or name another, with its registry, in setting image",
        ) from error


def _scripts() -> Iterator[ContextFile]:
    """The small files of the context: Dockerfile, h11, and what runs inside."""
    yield ContextFile("Dockerfile", (_HERE / "Dockerfile").read_bytes())
    spec = importlib.util.find_spec("h11")
    if spec is None or spec.origin is None:
        raise EngineError("the Python package h11 is missing", hint="reinstall plandock")
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        yield ContextFile(f"lib/h11/{path.name}", path.read_bytes())
    seen: dict[str, Path] = {}
    for folder in _INSIDE:
        for path in sorted(folder.glob("*.py")):
            if path.name == "__init__.py":
                continue
            if path.name in seen:
                raise EngineError(f"{path} and {seen[path.name]} cannot both be in the image")
            seen[path.name] = path
            yield ContextFile(f"inside/{path.name}", path.read_bytes())


def _content(file: ContextFile) -> bytes:
    return file.source if isinstance(file.source, bytes) else file.source.read_bytes()


def _percent(what: str, progress: Progress) -> package.Progress:
    """Turn counts of bytes into a line at each tenth."""
    said = -1

    def report(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // total if total else 0
        if tenth != said:
            said = tenth
            progress(f"{what}: {done >> 20} of {total >> 20} MiB")

    return report
