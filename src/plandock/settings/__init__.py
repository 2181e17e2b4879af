"""plandock's own settings, in layers; see ``layers`` for which wins and ``keys`` for all of them.

Light on purpose: the hook imports this.
"""

from plandock.settings.environment import login_volume, trusted, upstream
from plandock.settings.keys import Refused, Settings
from plandock.settings.layers import load

__all__ = ["Refused", "Settings", "load", "login_volume", "trusted", "upstream"]
