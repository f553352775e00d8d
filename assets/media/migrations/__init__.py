"""The derived tables of the media system."""
