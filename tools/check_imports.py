"""Check the direction of dependencies between the packages of plandock.

Reads the sources with `ast`, imports nothing of them, and prints one line per violation:

* a package imports only from layers below its own, or from a peer named in `PEERS`;
* whatever `hook` reaches, directly or not, is the standard library and a few modules at the
  bottom, because Claude Code waits for the hook;
* one module starts processes, beside the files that run inside a container;
* `standin` stands alone.

Exit code 1 where anything is wrong.
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = "plandock"
PACKAGE_DIR = Path(__file__).resolve().parent.parent / "src" / ROOT

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__", "cli", "tui", "demo", "hook"}),
    frozenset({"supervisor", "recover"}),
    frozenset({"workspace", "box", "gateway", "claude", "receipt", "notify"}),
    frozenset({"engines"}),
    frozenset({"runs"}),
    frozenset({"errors", "git", "paths", "printable", "proc", "settings"}),
)

# Imports between peers of one layer, each with its reason.
PEERS: frozenset[tuple[str, str]] = frozenset(
    {
        ("__main__", "cli"),  # the entry point chooses between the two
        ("__main__", "hook"),
        ("cli", "hook"),  # `init` and `uninit` wire the hook into Claude Code's settings
        ("cli", "demo"),  # `plandock demo`
        ("cli", "tui"),  # `plandock watch`
        ("supervisor", "recover"),
        ("recover", "supervisor"),  # what it finds half done is handed back to the supervisor
        ("box", "claude"),  # the image carries the version that `claude` finds on the host
        ("box", "gateway"),  # the box is started beside its gateway, over one shared socket
        ("gateway", "claude"),  # npm's settings are read where the CLI's package comes from
        ("workspace", "claude"),  # a conversation's files are staged beside the work tree
        ("git", "errors"),
        ("git", "proc"),  # git is run like any other program
        ("proc", "errors"),
        ("paths", "errors"),
        ("settings", "errors"),
        ("settings", "paths"),
    }
)

# Single modules of a peer, which import nothing of plandock, with the reason.
PEER_LEAVES = frozenset(
    {
        ("claude", "plandock.box.inside.activity"),  # one rule for what the CLI is at
        ("claude", "plandock.box.inside.overage"),  # one rule for who pays: in box and gateway too
    }
)

# The scripted model API: used by demo and tests, and using nothing of plandock itself.
ALONE = "standin"
MAY_USE_ALONE = frozenset({"demo"})

HOOK_REACHES = frozenset({"hook", "runs"}) | LAYERS[-1]
# Single modules above that line which the hook may load all the same: leaves that import nothing
# but the standard library and `errors`, in packages whose own __init__ is empty.
HOOK_LEAVES = frozenset(
    {
        "plandock.engines.quick",  # whether an engine is up, before the turn is stopped
        "plandock.workspace.branch",  # the branch's name is in the answer
    }
)

STARTS_PROCESSES = "proc"
PROCESS_MODULES = frozenset({"subprocess", "multiprocessing", "pty"})
PROCESS_FUNCTIONS = ("exec", "spawn", "posix_spawn", "fork", "system", "popen")


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, the line, and whether only type checkers see it."""

    module: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """One module of the package as the checker sees it."""

    name: str
    path: Path
    imports: tuple[Import, ...]
    process_calls: tuple[tuple[str, int], ...]

    @property
    def package(self) -> str:
        """First name below the root: `plandock.box.run` is of package `box`."""
        return package_of(self.name)

    @property
    def runs_in_container(self) -> bool:
        """Whether the file is copied into an image and never runs on the host."""
        return "inside" in self.path.parts


def package_of(module: str) -> str:
    """`plandock.box.run` → `box`; the root itself → the empty string."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def read_sources(package_dir: Path) -> dict[str, Source]:
    """Every module below `package_dir` (the folder of `plandock` itself), by dotted name."""
    files: dict[str, Path] = {}
    for path in sorted(package_dir.rglob("*.py")):
        parts = list(path.relative_to(package_dir).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        files[".".join([ROOT, *parts])] = path
    return {
        name: _read(name, path, path.relative_to(package_dir), frozenset(files))
        for name, path in files.items()
    }


def _read(name: str, path: Path, shown: Path, known: frozenset[str]) -> Source:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    base = name if path.name == "__init__.py" else name.rpartition(".")[0]
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and _is_type_checking(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in _modules_of(node, base, known):
                found.append(Import(module, node.lineno, id(node) in hidden))
    return Source(name, shown, tuple(found), tuple(_process_calls(tree)))


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _modules_of(
    node: ast.Import | ast.ImportFrom, base: str, known: frozenset[str]
) -> Iterator[str]:
    """The modules that one import statement loads; `from package import module` counts as both."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    module = node.module or ""
    if node.level:
        anchor = base.split(".")
        anchor = anchor[: len(anchor) - (node.level - 1)]
        module = ".".join([*anchor, module] if module else anchor)
    below = [f"{module}.{alias.name}" for alias in node.names]
    submodules = [name for name in below if name in known]
    yield from submodules
    if len(submodules) < len(below):
        yield module


def _process_calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Uses of functions of `os` and `asyncio` that start or replace a process."""
    os_names = {"os"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            os_names |= {a.asname for a in node.names if a.name == "os" and a.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name.startswith(PROCESS_FUNCTIONS):
                    yield f"os.{alias.name}", node.lineno
        elif isinstance(node, ast.Attribute):
            on = ast.unparse(node.value)
            if on in os_names and node.attr.startswith(PROCESS_FUNCTIONS):
                yield f"os.{node.attr}", node.lineno
            elif node.attr.startswith("create_subprocess_") or node.attr == "subprocess_exec":
                yield f"{on}.{node.attr}", node.lineno


def _layer(package: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if package in layer), None)


def _direction(source: Source) -> Iterator[str]:
    own = _layer(source.package)
    if source.package and own is None and source.package != ALONE:
        yield f"{source.path}: package `{source.package}` stands in no layer; add it to LAYERS"
        return
    for item in source.imports:
        target = package_of(item.module)
        if item.module.partition(".")[0] != ROOT or not target or target == source.package:
            continue
        where = f"{source.path}:{item.line}: `{source.package or ROOT}` imports `{item.module}`"
        if source.package == ALONE:
            yield f"{where}; `{ALONE}` imports nothing of {ROOT} but itself"
        elif target == ALONE:
            if source.package not in MAY_USE_ALONE:
                yield f"{where}; only demo and tests use the stand-in"
        elif own is None:
            yield f"{where}; the root package imports nothing"
        else:
            theirs = _layer(target)
            if theirs is None:
                yield f"{where}, which stands in no layer"
            elif theirs < own:
                yield f"{where}, which is above it"
            elif (
                theirs == own
                and (source.package, target) not in PEERS
                and (source.package, item.module) not in PEER_LEAVES
            ):
                yield f"{where}, a peer; allowed pairs stand in PEERS"


def _processes(source: Source) -> Iterator[str]:
    if source.package == STARTS_PROCESSES or source.runs_in_container:
        return
    hint = f"processes are started in `{ROOT}.{STARTS_PROCESSES}` alone"
    for item in source.imports:
        if not item.typing_only and item.module.partition(".")[0] in PROCESS_MODULES:
            yield f"{source.path}:{item.line}: imports `{item.module}`; {hint}"
    for name, line in source.process_calls:
        yield f"{source.path}:{line}: uses `{name}`; {hint}"


def _hook(sources: dict[str, Source]) -> Iterator[str]:
    """Follow the imports of `hook` to the end; each step must be allowed and cheap."""
    waiting = deque((name, name) for name in sources if package_of(name) == "hook")
    seen: set[str] = set()
    while waiting:
        name, way = waiting.popleft()
        if name in seen:
            continue
        seen.add(name)
        source = sources[name]
        for item in source.imports:
            if item.typing_only:
                continue
            top = item.module.partition(".")[0]
            where = f"{source.path}:{item.line}: the hook reaches `{item.module}` (by {way})"
            if top != ROOT:
                if top not in sys.stdlib_module_names:
                    yield f"{where}, which is not of the standard library"
                continue
            below = package_of(item.module) in HOOK_REACHES | {""}
            if not below and item.module not in HOOK_LEAVES:
                yield f"{where}; allowed: {', '.join(sorted(HOOK_REACHES))}"
                continue
            # Importing a module runs the packages above it too.
            parts = item.module.split(".")
            for length in range(1, len(parts) + 1):
                reached = ".".join(parts[:length])
                if reached in sources:
                    waiting.append((reached, f"{way} → {reached}"))


def violations(package_dir: Path) -> list[str]:
    """One line per violation in the package at `package_dir`; empty where all is well."""
    sources = read_sources(package_dir)
    found = [line for source in sources.values() for line in _direction(source)]
    found += [line for source in sources.values() for line in _processes(source)]
    found += _hook(sources)
    return found


def main(package_dir: Path = PACKAGE_DIR) -> int:
    """Check the package at `package_dir`, by default this clone's; the exit code."""
    found = violations(package_dir)
    for line in found:
        print(line)
    if not found:
        print("imports: every dependency points down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
