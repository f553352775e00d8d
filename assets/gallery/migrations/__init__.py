"""The derived tables of the gallery."""
