"""plandock: accept a plan on your laptop, get a branch back from a sealed container."""

__version__ = "0.1.0"
