"""The look for leftovers at the end of a test session, in real engines."""

from __future__ import annotations

import base64
import json

from plandock.engines.command_line import CommandLineEngine
from tests.engine.yard import Yard
from tests.support.leftovers import Made, _in_engine


def _found(yard: Yard, made: Made) -> set[str]:
    """The names of what is found, of this test's own."""
    assert isinstance(yard.engine, CommandLineEngine)
    return {x.split()[2] for x in _in_engine(yard.engine, made) if yard.mark in x.split()[2]}


def test_leftovers_are_found_by_name_and_by_label(yard: Yard) -> None:
    """A container by its name, a volume by a label; nothing for another session's words."""
    container = yard.name("c")
    yard.engine.create(yard.spec("true"))
    made = Made(words={yard.mark: "tests/x.py::test_y"})
    assert _found(yard, made) == {container}
    assert isinstance(yard.engine, CommandLineEngine)
    lines = [x for x in _in_engine(yard.engine, made) if container in x]
    assert lines == [f"{yard.engine.name} container {container} of tests/x.py::test_y"]
    volume = f"{yard.mark}x"
    yard.engine.create_volume(volume, {**yard.labels, "plandock.run": "left"})
    assert _found(yard, Made(words={"left": ""})) == {volume}
    assert _found(yard, Made(words={"right": ""})) == set()


def test_leftovers_of_another_state_folder_are_not_blamed(yard: Yard) -> None:
    """Two users' runs may have the same short id: the record on the volume says whose it is."""
    record = base64.b64encode(json.dumps({"state_dir": "/home/b/state"}).encode()).decode()
    bearing, other = f"{yard.mark}-work", f"{yard.mark}-link"
    run = f"r{yard.mark}"
    labels = {**yard.labels, "plandock.run": run}
    yard.engine.create_volume(bearing, {**labels, "plandock.record": record})
    yard.engine.create_volume(other, labels)
    assert _found(yard, Made(words={run: ""}, bases={"/home/a"})) == set()
    assert _found(yard, Made(bases={"/home/b"})) == {bearing, other}
