"""Partitions that are archived: their declaration, the records of their files, how they drop."""
