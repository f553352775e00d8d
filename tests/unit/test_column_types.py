"""A type fits where it holds every value of the other, not merely those of today."""

from __future__ import annotations

import pytest

from tallykeeper.declarations.column_types import Type, holds

TEXT, VARCHAR = "text", "character varying"
ZONED, NAIVE = "timestamp with time zone", "timestamp without time zone"


@pytest.mark.parametrize(
    ("container", "content"),
    [
        (Type("integer"), Type("integer")),
        (Type("bigint"), Type("integer")),
        (Type("bigint"), Type("smallint")),
        (Type("double precision"), Type("real")),
        (Type(TEXT), Type(VARCHAR, (20,))),
        (Type(VARCHAR), Type(TEXT)),
        (Type(VARCHAR, (30,)), Type(VARCHAR, (20,))),
        (Type("text[]"), Type(f"{VARCHAR}[]")),
        (Type("bigint[]"), Type("integer[]")),
        (Type(NAIVE), Type(ZONED)),
        (Type(ZONED), Type(NAIVE)),
        (Type(NAIVE, (6,)), Type(ZONED)),
        (Type(ZONED, (6,)), Type(ZONED)),
        (Type("numeric"), Type("numeric", (12, 2))),
        (Type("numeric", (14, 3)), Type("numeric", (12, 2))),
        (Type("uuid"), Type("uuid")),
    ],
)
def test_a_type_holds_all_values_of_one_that_is_no_wider(container: Type, content: Type) -> None:
    assert holds(container, content)


@pytest.mark.parametrize(
    ("container", "content"),
    [
        (Type("integer"), Type("bigint")),
        (Type("real"), Type("double precision")),
        (Type("bigint"), Type("real")),
        (Type("double precision"), Type("bigint")),
        (Type("text"), Type("integer")),
        (Type("integer"), Type("text")),
        (Type(VARCHAR, (20,)), Type(TEXT)),
        (Type(VARCHAR, (20,)), Type(VARCHAR, (30,))),
        (Type("text"), Type("text[]")),
        (Type("text[]"), Type("text")),
        (Type("date"), Type(ZONED)),
        (Type(NAIVE, (3,)), Type(ZONED)),
        (Type(f"{NAIVE}[]"), Type(f"{ZONED}[]")),
        (Type("numeric", (12, 2)), Type("numeric")),
        (Type("numeric", (12, 4)), Type("numeric", (12, 2))),
        (Type("numeric", (12, 2)), Type("numeric", (12, 4))),
        (Type("bit", (6,)), Type("bit", (8,))),
        (Type("jsonb"), Type("json")),
    ],
)
def test_a_type_that_would_refuse_or_alter_some_value_does_not_hold(
    container: Type, content: Type
) -> None:
    assert not holds(container, content)


POOL = [
    Type(name, limits)
    for name, limits in [
        ("smallint", ()),
        ("integer", ()),
        ("bigint", ()),
        ("bigint[]", ()),
        ("real", ()),
        ("double precision", ()),
        ("numeric", ()),
        ("numeric", (12, 2)),
        ("numeric", (14, 2)),
        ("numeric", (14, 4)),
        (TEXT, ()),
        ("text[]", ()),
        (VARCHAR, ()),
        (VARCHAR, (20,)),
        (VARCHAR, (30,)),
        (ZONED, ()),
        (ZONED, (6,)),
        (ZONED, (3,)),
        (NAIVE, ()),
        (NAIVE, (3,)),
        ("date", ()),
        ("uuid", ()),
    ]
]


@pytest.mark.parametrize("type_", POOL, ids=str)
def test_a_type_holds_its_own_values_and_those_of_what_its_holdings_hold(type_: Type) -> None:
    assert holds(type_, type_)
    held = [inner for inner in POOL if holds(type_, inner)]
    assert all(holds(type_, least) for inner in held for least in POOL if holds(inner, least))


def test_a_change_log_has_text_of_any_length() -> None:
    assert Type(VARCHAR, (20,)).as_logged() == Type("text")
    assert Type(f"{VARCHAR}[]", (20,)).as_logged() == Type("text[]")
    assert Type("numeric", (12, 2)).as_logged() == Type("numeric", (12, 2))


def test_types_are_shown_as_sql_writes_them() -> None:
    assert str(Type("numeric", (12, 2))) == "numeric(12,2)"
    assert str(Type(ZONED)) == ZONED
