"""Words that would do something if anything took them for more than words, and who would notice.

`owned` is a program on the PATH of everything in the test; it leaves a marker.  A shell that reads
a payload runs it, and so does a git that takes a payload for an option.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import hooks
from tests.support.commands import CommandServer

# Plans by name.  The shell ones run `owned` when a shell is given them (the positive control).
SHELL_PLANS: Mapping[str, str] = {
    "substitution": "# Add $(owned) to it\n\n$(owned) and $(owned)\n",
    "backticks": "# Add `owned` to it\n\n`owned` and `owned`\n",
    "separators": "# Add x; owned; # y\ntrue; owned; true & owned | owned && owned\n",
    "lines": "# Add x\nowned\r\nowned\n\towned\n",
    "quotes": '\'"\'; owned; "\'"; owned; # "\n',
    "variable": "# Add ${IFS:-$(owned)}\n: ${nothing:-$(owned)}\n",
}
OTHER_PLANS: Mapping[str, str] = {
    "options": "--upload-pack=owned\n\n--exec=owned -c core.sshCommand=owned --force\n",
    "short option": "-x\n\n-c core.pager=owned\n",
    "option heading": "# --output=owned --help\n",
    "nul": "# Add x\0; owned; --upload-pack=owned\0\n",
    "escapes": "# \x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b5n\u202etxt\u2066\r\b\n\n\x1bP1$r\x1b\\\n",
    "braces": "# {run} {slug} {0.__class__} %s %(x)s {{}} ${owned}\n",
    "upwards": "# ../../../.git/hooks/post-commit\n",
    "lock": "# main.lock\n",
    "head": "# HEAD\n",
    "revision": "# @{-1}^{/owned}:x\n",
    "unicode": "# ｆｅａｔｕｒｅ／．．／ \u2025\ufeff é e\u0301 𝐱 İ ß\n",
    "signs alone": "# !@#$%^&*()\n",
    "bound": "# Big\n" + "$(owned) " * ((1024 * 1024 - 6) // 9),
}
PLANS: Mapping[str, str] = {**SHELL_PLANS, **OTHER_PLANS}

FOLDERS: tuple[str, ...] = (
    "with  space",
    "$(owned)",
    "`owned`",
    "; owned ; x",
    '\'q"; owned; "',
    "-rf",
    "--upload-pack=owned",
    "a,readonly=false,b:ro:c",
    "{run} %s *?[x]",
    "back\\slash\\",
    "Zoë \u202e",
)

IDENTITIES: Mapping[str, tuple[str, str]] = {
    "substitution": ("Eve $(owned) `owned`", "$(owned)@example.invalid"),
    "lines": ("Eve\ncommitter Ada <ada@example.invalid> 0 +0000\n\n$(owned)", "e@example.invalid"),
    "option": ("--upload-pack=owned", "-x"),
    "brackets": ("Eve <root@example.invalid> 0 +0000", "e@x> 1 +0000\nparent 0"),
    "escapes": ("\x1b[2JEve\x07 \u202e", "eve@example.invalid"),
    "quotes": ("Eve\"; owned; '", "e';owned;'@example.invalid"),
}

SESSIONS: tuple[str, ...] = (
    "../../../owned",
    "/etc/owned",
    "a/../../owned",
    "..",
    "-x",
    "--settings=owned",
    "$(owned)",
    "x; owned",
    "x\0owned",
    "x\nowned",
    "\x1b[2J",
    "l" * 5000,
)

_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def steering(text: str) -> list[str]:
    """What in a text would steer a terminal or turn its letters around."""
    return _STEERS.findall(text)


def put_trap(folder: Path, marker: Path) -> None:
    """Make the program `owned` in a folder: whoever runs it leaves the marker."""
    folder.mkdir(parents=True, exist_ok=True)
    trap = folder / "owned"
    trap.write_text(f"#!/bin/sh\n: > {shlex.quote(str(marker))}\n")
    trap.chmod(0o755)


@dataclass(frozen=True)
class Stage:
    """A place where hand-offs succeed, with the trap on its PATH and every call of git noted."""

    world: hooks.HookWorld
    commands: CommandServer
    marker: Path
    calls: Path

    @classmethod
    def make(cls, world: hooks.HookWorld, commands: CommandServer, root: Path) -> Stage:
        """Lay the trap, and put a git in the way that notes its words and goes on as git."""
        stage = cls(world, commands, root / "marker", root / "calls")
        put_trap(world.tools, stage.marker)
        git = world.tools / "git"
        real = git.resolve()
        git.unlink()
        note = f"{{ printf '%s\\0' \"$@\"; printf '\\036\\0'; }} >> {shlex.quote(str(stage.calls))}"
        git.write_text(f'#!/bin/sh\n{note}\nexec {shlex.quote(str(real))} "$@"\n')
        git.chmod(0o755)
        # A shell (the trap's, git's own) finds its tools behind ours.
        world.env["PATH"] = f"{world.tools}:/usr/bin:/bin"
        return stage

    @property
    def owned(self) -> bool:
        """Whether anything has run the trap."""
        return self.marker.exists()

    def git_calls(self) -> list[list[str]]:
        """The words of every call of git so far."""
        if not self.calls.exists():
            return []
        text = self.calls.read_bytes().decode("utf-8", "surrogateescape")
        return [call.split("\0")[:-1] for call in text.split("\x1e\0")[:-1]]

    def plandock(
        self, *words: str, cwd: Path | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command line of the copy whose supervisor only notes its start."""
        place = cwd or self.world.repo.root
        env = {**self.world.env, "PYTHONPATH": str(self.world.package.parent)}
        return self.commands.run(*words, cwd=place, env=env, stdin=stdin)

    def shell(self, text: str) -> None:
        """What must never happen: a shell reads the text."""
        subprocess.run(
            ["/bin/sh", "-c", text],
            env={**os.environ, "PATH": self.world.env["PATH"]},
            cwd=self.world.home,
            capture_output=True,
            timeout=600,
            check=False,
        )
