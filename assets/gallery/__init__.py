"""Gallery: items by creator and source, and the junction of items and tags."""

from assets.gallery.tallies import system

__all__ = ["system"]
