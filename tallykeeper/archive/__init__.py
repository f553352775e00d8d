"""Partitions of big sources as Parquet files: written, compared, dropped, read back, redacted."""
