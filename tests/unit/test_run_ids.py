"""Ids of runs are short, can be said aloud, and do not meet by chance."""

from __future__ import annotations

from plandock.runs.folder import is_run_id
from plandock.runs.model import new_run_id


def test_ids_of_several_users_of_one_engine_hardly_ever_meet() -> None:
    """Each has a store of their own, and the names of their containers have the id alone.

    Of as many ids as a day's tests make, few are met twice: 2,000 have about 4 such pairs among
    half a million, and about 100 among the 19,683 of before.
    """
    ids = [new_run_id() for _ in range(2000)]
    assert len(ids) - len(set(ids)) < 30
    assert all(is_run_id(one) and len(one) <= 6 for one in ids)
    assert not set("".join(ids)) & set("aeiou01l")
