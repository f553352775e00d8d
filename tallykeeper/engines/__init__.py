"""A tally's SELECT in another query engine: DuckDB on this machine, or Spark."""
