"""The safe git calls, where the workspace's modules look for them."""

from plandock.git import *  # noqa: F403
from plandock.git import SAFE_OPTIONS as SAFE_OPTIONS
from plandock.git import git as git
from plandock.git import names as names
