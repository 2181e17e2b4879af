"""Sends a snapshot and a conversation into the engine: the host's half of `box/inside/stage.py`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from plandock import proc
from plandock.claude.conversation import BoxFile
from plandock.engines.protocol import BrokenOff, ContainerSpec, Engine
from plandock.errors import EngineError
from plandock.workspace import pack

_LONGEST_LINE = 4 * 1024 * 1024


@dataclass(frozen=True)
class Wish:
    """What the workspace is to be."""

    workspace: str
    snapshot: str
    branch: str
    name: str
    email: str
    run: str


def stage(
    engine: Engine, spec: ContainerSpec, repo: Path, wish: Wish, files: Sequence[BoxFile]
) -> None:
    """Lay out the volumes of ``spec``: only what the mirror does not have yet is sent.

    Raises :class:`EngineError` with the box's words when that fails.
    """
    with tempfile.TemporaryFile() as errors:
        child = engine.open_run(spec, stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            haves = _answer(child.stdout, errors).get("haves", [])
            known = [x for x in haves if isinstance(x, str)]
            needed = wish.snapshot not in known
            order = {
                **wish.__dict__,
                "object_format": pack.object_format(repo),
                "shallow": pack.shallow_boundary(repo),
                "files": [{"path": f.path, "size": len(f.content)} for f in files],
                "pack": needed,
            }
            child.stdin.write(json.dumps(order).encode() + b"\n")
            for file in files:
                child.stdin.write(file.content)
            child.stdin.flush()
            if needed:
                with pack.open_pack(repo, [wish.snapshot], known) as packed:
                    shutil.copyfileobj(packed.stdout, child.stdin, 1 << 20)
                    packed.finish()
            child.stdin.close()
            _answer(child.stdout, errors)
        except BrokenPipeError as error:
            _answer(child.stdout, errors)
            raise BrokenOff("staging broke off") from error
        finally:
            proc.end(child, grace_s=10.0)
            child.stdout.close()


def _answer(stream: IO[bytes], errors: IO[bytes]) -> dict[str, Any]:
    line = stream.readline(_LONGEST_LINE)
    try:
        data = json.loads(line)
    except ValueError:
        errors.seek(0)
        said = errors.read(4000).decode("utf-8", "replace").strip().splitlines()
        raise BrokenOff(f"staging gave no answer: {said[-1] if said else 'nothing'}") from None
    if not isinstance(data, dict):
        raise EngineError("staging gave an odd answer")
    if "error" in data:
        raise EngineError(f"staging failed: {str(data['error'])[:500]}")
    return data
