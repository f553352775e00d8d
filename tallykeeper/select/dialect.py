"""PostgreSQL's SQL, parsed and printed without changing what it means.

sqlglot translates between databases, and so reads many functions as others that mean nearly the
same. Here a function stays the function it was written as: only the few that the compiler itself
must recognise have a class of their own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError
from sqlglot.generators.postgres import PostgresGenerator
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

from tallykeeper.database.sql import literal

# Recognised by the compiler, and printed under the same name with the same arguments.
_KNOWN = (
    "ARRAY_AGG",
    "AVG",
    "COALESCE",
    "COUNT",
    "DENSE_RANK",
    "GREATEST",
    "LEAST",
    "MAX",
    "MIN",
    "NULLIF",
    "RANK",
    "ROW_NUMBER",
    "SUM",
)
# Written with words between their arguments.
_SYNTAX = ("CAST", "EXTRACT", "OVERLAY", "POSITION", "SUBSTRING", "TRIM", "XMLELEMENT")


class Parser(PostgresParser):
    """Reads every other function as `exp.Anonymous`."""

    FUNCTIONS: ClassVar = {k: v for k, v in PostgresParser.FUNCTIONS.items() if k in _KNOWN}
    FUNCTION_PARSERS: ClassVar = {
        k: v for k, v in PostgresParser.FUNCTION_PARSERS.items() if k in _SYNTAX
    }

    # '101'::bit is one bit, '101'::"bit" all of them.
    QUOTED_TYPES_TO_PRESERVE: ClassVar = {"char", "bit"}
    UNARY_PARSERS: ClassVar = {
        **PostgresParser.UNARY_PARSERS,
        TokenType.PARAMETER: lambda self: self.expression(exp.Abs(this=self._parse_unary())),
    }

    def _parse_types(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        first, second = self._curr, self._next
        if first and second and first.text.lower() == "bit" and second.text.lower() == "varying":
            self._advance(2)
            return self._with_length("bit varying")
        if first and second and (first.text.lower(), second.text) == ("interval", "("):
            self._advance()
            return self._with_length("interval")
        return super()._parse_types(*args, **kwargs)

    def _with_length(self, name: str) -> exp.Expr:
        """A type that sqlglot has no name for, with the number in parentheses after it."""
        if self._match(TokenType.L_PAREN):
            number = self._curr.text
            self._advance()
            self._match_r_paren()
            name = f"{name}({number})"
        this = exp.DataType(this=exp.DType.USERDEFINED, kind=name)
        while self._match_pair(TokenType.L_BRACKET, TokenType.R_BRACKET):
            this = exp.DataType(this=exp.DType.ARRAY, expressions=[this], nested=True)
        return this

    def _parse_function_call(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        # A name in quotes, "substring", is called like any other function.
        if self._curr and self._curr.token_type == TokenType.IDENTIFIER:
            kwargs["anonymous"] = True
        return super()._parse_function_call(*args, **kwargs)

    def _parse_using_identifiers(self) -> list[exp.Expr]:
        columns = super()._parse_using_identifiers()
        if columns and self._match(TokenType.ALIAS):
            columns[0].meta["join_alias"] = self._parse_id_var()
        return columns


class Generator(PostgresGenerator):
    """Prints function names and operators as they were written."""

    MULTI_ARG_DISTINCT = True
    # Functions of these names are `exp.Anonymous`, so that these are the operators.
    TRANSFORMS: ClassVar = {
        **PostgresGenerator.TRANSFORMS,
        exp.Abs: lambda self, e: f"@ {self.sql(e, 'this')}",
        exp.Cbrt: lambda self, e: f"||/ {self.sql(e, 'this')}",
        exp.Pow: lambda self, e: self.binary(e, "^"),
        exp.Sqrt: lambda self, e: f"|/ {self.sql(e, 'this')}",
        exp.StartsWith: lambda self, e: self.binary(e, "^@"),
    }

    def literal_sql(self, expression: exp.Literal) -> str:
        # In the body of a function it is read under the settings of the calling session.
        if expression.is_string and "\\" in str(expression.this):
            return literal(str(expression.this))
        return str(super().literal_sql(expression))

    def not_sql(self, expression: exp.Not) -> str:
        # NOT of anything is printed with parentheses by PostgreSQL; these are operators of theirs.
        negated = expression.this
        if isinstance(negated, exp.RegexpLike):
            return str(self.binary(negated, "!~"))
        if isinstance(negated, exp.RegexpILike):
            return str(self.binary(negated, "!~*"))
        if isinstance(negated, exp.Is) and not negated.args.get("negate"):
            return f"{self.sql(negated, 'this')} IS NOT {self.sql(negated, 'expression')}"
        return str(super().not_sql(expression))

    def windowspec_sql(self, expression: exp.WindowSpec) -> str:
        if expression.args.get("end") or expression.args.get("exclude"):
            return str(super().windowspec_sql(expression))
        start = f"{self.sql(expression, 'start')} {self.sql(expression, 'start_side')}"
        return f"{self.sql(expression, 'kind')} {start}"

    def normalize_func(self, name: str) -> str:
        return name

    def join_sql(self, expression: exp.Join, join_op: str | None = None) -> str:
        text = super().join_sql(expression, join_op)
        using = expression.args.get("using")
        alias = using[0].meta.get("join_alias") if using else None
        return f"{text} AS {self.sql(alias)}" if alias is not None else text


class Dialect(Postgres):
    """PostgreSQL, exactly."""

    Parser = Parser
    Generator = Generator


DIALECT = Dialect


def parse(text: str) -> exp.Query:
    """Parse one SELECT. Raises `sqlglot.errors.ParseError` where it is not understood."""
    tree = DIALECT().parse(text.strip().rstrip(";"))[0]
    if not isinstance(tree, exp.Query):
        raise ParseError(f"not a SELECT: {text[:60]}")
    return tree


def to_sql(tree: exp.Expr) -> str:
    """Print a tree as SQL."""
    return str(DIALECT().generate(tree, comments=False))


def is_equality(condition: exp.Expr) -> bool:
    """Whether it says that two values are equal: `a = ANY (b)` says less."""
    return isinstance(condition, exp.EQ) and not has_many(condition)


def has_many(comparison: exp.Expr) -> bool:
    """Whether a side of a comparison is ANY or ALL of many values."""
    for side in (comparison.this, comparison.expression):
        bare = side.unnest()
        name = str(bare.this).lower() if isinstance(bare, exp.Anonymous) else ""
        if isinstance(bare, exp.Any | exp.All) or name in ("any", "all", "some"):
            return True
    return False
