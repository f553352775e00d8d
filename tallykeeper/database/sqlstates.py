"""PostgreSQL's codes for what went wrong (SQLSTATE), by the names that its manual has for them.

The codes are in appendix A of the manual. Only those are here that somebody asks for. Invariant:
no other module writes a code, so that a search for the name finds everybody who depends on it.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

INVALID_PARAMETER_VALUE = "22023"
NUMERIC_VALUE_OUT_OF_RANGE = "22003"
INVALID_DATETIME_FORMAT = "22007"
DATETIME_FIELD_OVERFLOW = "22008"
CHARACTER_NOT_IN_REPERTOIRE = "22021"
INVALID_TEXT_REPRESENTATION = "22P02"
RESTRICT_VIOLATION = "23001"
FOREIGN_KEY_VIOLATION = "23503"
READ_ONLY_SQL_TRANSACTION = "25006"
IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03"
TRANSACTION_TIMEOUT = "25P04"
INVALID_SCHEMA_NAME = "3F000"
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_COLUMN = "42703"
UNDEFINED_FUNCTION = "42883"
UNDEFINED_TABLE = "42P01"
INVALID_FUNCTION_DEFINITION = "42P13"
INVALID_TABLE_DEFINITION = "42P16"
OUT_OF_MEMORY = "53200"
TOO_MANY_CONNECTIONS = "53300"
CONFIGURATION_LIMIT_EXCEEDED = "53400"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
SNAPSHOT_TOO_OLD = "72000"
RAISE_EXCEPTION = "P0001"
"""RAISE in a trigger or function of somebody's own."""

# Classes: the first two characters of a code.
CONNECTION_EXCEPTION = "08"
FEATURE_NOT_SUPPORTED = "0A"
DATA_EXCEPTION = "22"
INTEGRITY_CONSTRAINT_VIOLATION = "23"
DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST = "2B"
SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION = "42"
WITH_CHECK_OPTION_VIOLATION = "44"
PROGRAM_LIMIT_EXCEEDED = "54"
SYSTEM_ERROR = "58"
OPERATOR_INTERVENTION_SHUTDOWN = "57P"
"""The server is shut down, has crashed, or does not accept connections yet."""

MISSING_RELATION = frozenset({UNDEFINED_TABLE, INVALID_SCHEMA_NAME})
"""No such table or view, or no such schema."""


def sqlstate_of(error: DBAPIError) -> str:
    """Return the code of an error, or nothing where the server did not send one."""
    return str(getattr(error.orig, "sqlstate", "") or "")
