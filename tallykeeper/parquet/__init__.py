"""Rows of PostgreSQL as Parquet files and back: the same values, or an error."""
