"""What may be asked of the gallery, checked before anything is read.

No SQL here. Invariants: two questions with the same answer are the same text, whatever
the order in which tags or sources were named, because cursors belong to that text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from assets.gallery.tables import AUTO, REGULAR

# In the order of items that are equal in moment and id.
SOURCES = (REGULAR, AUTO)
MATCHES = ("any", "all")
CREATORS = ("all", "user", "community")
LARGEST_PAGE = 1_000

Tag = UUID | str
Creator = Literal["all", "user", "community"]
Kind = tuple[str, str]
"""A creator, "user" or "community", and a source."""


@dataclass(frozen=True)
class Filters:
    """A question: which items, whatever page of them."""

    tags: frozenset[Tag]
    match: Literal["any", "all"]
    sources: tuple[str, ...]
    creators: tuple[Creator, ...]
    """Of each of the sources."""
    user_id: UUID | None
    private: bool | None

    def creator_of(self, source: str) -> Creator:
        """Whose items of the source are asked for."""
        return self.creators[self.sources.index(source)]

    def __str__(self) -> str:
        tags = sorted([type(tag).__name__, str(tag)] for tag in self.tags)
        user = None if self.user_id is None else str(self.user_id)
        creators = self.creators[0] if len(set(self.creators)) == 1 else self.creators
        return json.dumps([tags, self.match, self.sources, creators, user, self.private])


def checked(
    tags: Iterable[Tag],
    match: str,
    sources: str | Collection[str],
    creator: str | Collection[str],
    user_id: UUID | str | None,
    private: bool | None,
    kinds: Collection[Kind] | None = None,
) -> Filters:
    """The question that the arguments put. Raises ValueError where they put none.

    `kinds` stands in place of `sources` and `creator`.
    """
    if match not in MATCHES:
        raise ValueError(f"Expected `match` to be 'any' or 'all', but it is {match!r}.")
    if private not in (None, True, False):
        raise ValueError(f"Expected `private` to be True, False or None, but it is {private!r}.")
    user = user_of(user_id)
    if kinds is None:
        named = sources_of(sources)
        creators = (_creator_of(creator, user),) * len(named)
    else:
        named = sources_of({source for _, source in kinds})
        creators = tuple(_creator_of({c for c, s in kinds if s == one}, user) for one in named)
    return Filters(
        tags=frozenset(_tags_of(tags)),
        match="all" if match == "all" else "any",
        sources=named,
        creators=creators,
        # Who asks makes no other question of it where nothing is filtered by it.
        user_id=None if set(creators) == {"all"} else user,
        private=private,
    )


def user_of(user_id: UUID | str | None) -> UUID | None:
    """The user's id. Raises ValueError where the text is none."""
    if user_id is None or isinstance(user_id, UUID):
        return user_id
    try:
        return UUID(user_id)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"Expected `user_id` to be a UUID, but it is {user_id!r}.") from error


def sources_of(sources: str | Collection[str]) -> tuple[str, ...]:
    """The sources named, in their own order. Raises ValueError where there are none, or others."""
    named = _several("sources", sources, SOURCES)
    return tuple(source for source in SOURCES if source in named)


def whole_number(name: str, value: int, most: int) -> int:
    """`value`, from 1 to `most`. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"Expected `{name}` from 1 to {most:,}, but it is {value!r}.")
    return value


def id_in(tag: Tag) -> UUID | None:
    """The id that a tag is given by, if it can be one."""
    if isinstance(tag, UUID):
        return tag
    try:
        return UUID(tag)
    except ValueError:
        return None


def is_storable(text: str) -> bool:
    """Whether PostgreSQL could have that text anywhere; no name is one that it could not."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _tags_of(tags: Iterable[Tag]) -> set[Tag]:
    if isinstance(tags, str | UUID):
        raise ValueError(
            f"Expected `tags` to be a collection of tags, but it is {tags!r}; write [{tags!r}]."
        )
    named = set(tags)
    for tag in named:
        if not isinstance(tag, str | UUID):
            raise ValueError(f"Expected a tag to be a UUID or a name, but one is {tag!r}.")
    return named


def _creator_of(creator: str | Collection[str], user: UUID | None) -> Creator:
    named = _several("creator", creator, CREATORS)
    if named == {"user"}:
        if user is None:
            raise ValueError(
                "Expected a `user_id` with creator='user', but there is none; give one."
            )
        return "user"
    return "community" if named == {"community"} and user is not None else "all"


def _several(name: str, given: str | Collection[str], known: tuple[str, ...]) -> set[str]:
    named = {given} if isinstance(given, str) else set(given)
    if not named or not named <= set(known):
        choices = ", ".join(repr(choice) for choice in known)
        raise ValueError(f"Expected `{name}` to be one or more of {choices}, but it is {given!r}.")
    return named
