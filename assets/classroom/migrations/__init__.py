"""The derived tables of the classroom."""
