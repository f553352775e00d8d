"""The derived tables of the fediverse."""
