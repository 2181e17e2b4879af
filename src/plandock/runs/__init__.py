"""Runs: what one is (model) and where they are kept (store)."""
