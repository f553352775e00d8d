"""Which PostgreSQL types hold every value of which others, unchanged.

Only what holds for every value counts: an integer does not hold a bigint, though today's numbers
may be small. The one exception is a timestamp without time zone, which holds one with it as UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

TEXTS = ("text", "character varying")
ZONED, NAIVE = "timestamp with time zone", "timestamp without time zone"
# What a time without limit has: microseconds.
FINEST_TIME = 6
# Each holds those that come before it.
LADDERS = (("smallint", "integer", "bigint"), ("real", "double precision"))


@dataclass(frozen=True)
class Type:
    """A type by PostgreSQL's name for it, and its limits: length, or precision and scale."""

    name: str
    limits: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({','.join(map(str, self.limits))})" if self.limits else self.name

    def as_logged(self) -> Type:
        """The type that a change log has for it: text of any length where it is text."""
        base, brackets = _split(self.name)
        return Type(f"text{brackets}") if base in TEXTS else self

    def without_limits(self) -> Type:
        """The same without its limits."""
        return Type(self.name)


def holds(container: Type, content: Type) -> bool:
    """Whether a column of type `container` takes and returns every value of type `content`."""
    outer, brackets = _split(container.name)
    inner, inner_brackets = _split(content.name)
    if brackets != inner_brackets:
        return False
    if outer in TEXTS and inner in TEXTS:
        return _longer(container.limits, content.limits)
    if outer == inner or ({outer, inner} == {ZONED, NAIVE} and not brackets):
        finest = "time" in outer and container.limits == (FINEST_TIME,)
        return finest or _roomier(container.limits, content.limits)
    return any(
        outer in ladder and inner in ladder and ladder.index(outer) > ladder.index(inner)
        for ladder in LADDERS
    )


def _split(name: str) -> tuple[str, str]:
    base = name.removesuffix("[]")
    return base, name[len(base) :]


def _longer(container: tuple[int, ...], content: tuple[int, ...]) -> bool:
    """Text: no limit, or one that is not below the other's."""
    return not container or (bool(content) and container[0] >= content[0])


def _roomier(container: tuple[int, ...], content: tuple[int, ...]) -> bool:
    """Numbers: digits before and after the point. Other limits (times, bits) must be the same."""
    if not container or container == content:
        return True
    if len(container) != 2 or len(content) != 2:
        return False
    before = container[0] - container[1] >= content[0] - content[1]
    return before and container[1] >= content[1]
