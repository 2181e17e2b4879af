"""Fixtures of the security tests: the end-to-end ones, and a run that is held half-way."""

from __future__ import annotations

from tests.e2e.conftest import make_laptop as make_laptop
from tests.e2e.conftest import standin as standin
