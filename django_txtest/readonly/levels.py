"""How deep the protection goes."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """Each level has those before it, too."""

    ORM = 1
    SQL = 2
    DB = 3

    @classmethod
    def of(cls, name: object) -> Level:
        """Return the level of that name.

        :raises ValueError: if there is none.
        """
        if isinstance(name, cls):
            return name
        for level in cls:
            if name == level.word:
                return level
        words = ", ".join(level.word for level in cls)
        raise ValueError(f"the level must be one of {words}, not {name!r}")

    @property
    def word(self) -> str:
        """The name, as settings have it."""
        return self.name.lower()


#: The vendors on which each level can be had, as Django names them.
VENDORS = ("postgresql", "sqlite")


def possible(level: Level, vendor: str) -> Level:
    """Return the level, or what can be had of it on the vendor's databases."""
    return level if vendor in VENDORS else Level.ORM
