"""What ``plandock config`` shows: each setting as one would write it, and where it comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from plandock.settings.keys import Settings, all_keys


@dataclass(frozen=True)
class Row:
    """One setting; ``value`` is what one would write into a file (``None``: no limit)."""

    key: str
    value: object
    origin: str
    about: str
    refused: str

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def rows(settings: Settings) -> list[Row]:
    """One row for each key; ``refused`` says what the repository asked for in vain, and why."""
    refused = {r.key: f"{r.where}: {r.why}" for r in settings.refused}
    return [
        Row(
            key.name,
            _written(key.name, getattr(settings, key.field)),
            settings.origins.get(key.name, "default"),
            key.about,
            refused.get(key.name, ""),
        )
        for key in all_keys().values()
    ]


def _written(key: str, value: object) -> object:
    if key == "timeout" and isinstance(value, float):
        return _in_units(value, (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)))
    if key == "memory" and isinstance(value, int):
        return _in_units(value, (("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)))
    return list(value) if isinstance(value, tuple) else value


def _in_units(value: float, units: tuple[tuple[str, int], ...]) -> object:
    for letter, size in units:
        if value >= size and value % size == 0:
            return f"{int(value // size)}{letter}"
    return value
