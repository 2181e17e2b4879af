"""Removing the images that a mutated tree has built: their names are made from what is in them."""

from __future__ import annotations

import subprocess

from tools.mutations.copied_tree import CopiedTree

# In the copy's own Python.  `ensure_image` is asked as a test would ask it, and stopped at the
# moment at which it names the image: so nothing is built that the tests have not built.
_REMOVE = """
import os
os.environ["XDG_CACHE_HOME"] = os.environ["PLANDOCK_TEST_CACHE"]
from plandock.box.image import ensure_image
from plandock.engines import detect
from plandock.errors import PlandockError

class Named(Exception):
    pass

class Asking:
    def __init__(self, engine):
        self.engine = engine
    def __getattr__(self, name):
        return getattr(self.engine, name)
    def image_exists(self, tag):
        raise Named(tag)

for name in detect.NAMES:
    try:
        engine = detect.choose(name)
        version = os.environ["PLANDOCK_TEST_CLI_NEWEST_VERSION"]
        ensure_image(
            Asking(engine), cli_version=version, base=os.environ["PLANDOCK_TEST_BASE_IMAGE"]
        )
    except Named as found:
        if engine.image_exists(str(found)):
            engine.remove_image(str(found))
            print("removed", found, "from", name)
    except PlandockError:
        continue
"""


def remove_image_of(copy: CopiedTree) -> str:
    """Remove the box's image of a mutated tree from every engine; what was done, in words.

    Never that of the tree as it is: another content is another name.
    """
    environment = copy.environment()
    environment.setdefault("PLANDOCK_TEST_CACHE", f"{environment['PLANDOCK_SETUP_DIR']}/cache")
    environment.setdefault("PLANDOCK_TEST_BASE_IMAGE", "debian:bookworm-slim")
    done = subprocess.run(
        [str(copy.python), "-c", _REMOVE], env=environment, cwd=copy.root,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr
