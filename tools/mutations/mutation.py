"""One rule that is broken on purpose: what is replaced by what, and the tests that must notice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


class TableError(Exception):
    """A row of the table does not fit the code any more; the message says which and why."""


@dataclass(frozen=True)
class Mutation:
    """A rule, broken: ``before`` in ``file`` (below the root of the tree) becomes ``after``.

    ``promise`` is the number of the design's promise that it breaks.  ``tests`` are pytest ids
    (a file, a function, or one case of it), the cheapest that guard the rule.  ``image``: the
    file is part of the box's image, and the tests build it.
    """

    name: str
    promise: int
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    why: str
    image: bool = False

    @property
    def layer(self) -> str:
        """The package that the rule lives in; ``… (inside)`` where it runs in a container."""
        package = PurePosixPath(self.file).relative_to("src/plandock").parts
        own = package[0].removesuffix(".py")
        return f"{own} (inside)" if "inside" in package[1:] else own

    def changed(self, root: Path) -> str:
        """The whole file with the rule broken.  Raises :class:`TableError`."""
        try:
            text = (root / self.file).read_text("utf-8")
        except FileNotFoundError:
            raise TableError(f"{self.name}: there is no {self.file}") from None
        count = text.count(self.before)
        if count != 1:
            raise TableError(f"{self.name}: `before` stands {count} times in {self.file}, not once")
        return text.replace(self.before, self.after)

    def faults(self, root: Path) -> list[str]:
        """What does not fit the tree at ``root``, a line each; starts no process."""
        found = []
        try:
            changed = self.changed(root)
            if self.file.endswith(".py"):
                compile(changed, self.file, "exec")
        except TableError as error:
            found.append(str(error))
        except SyntaxError as error:
            found.append(f"{self.name}: {self.file} is no Python any more: {error.msg}")
        for test in self.tests:
            path, _, name = test.partition("::")
            function = name.partition("[")[0]
            file = root / path
            if not file.is_file():
                found.append(f"{self.name}: there is no {path}")
            elif function and not re.search(
                rf"^(?:async )?def {re.escape(function)}\(", file.read_text("utf-8"), re.M
            ):
                found.append(f"{self.name}: there is no {function} in {path}")
        return found
