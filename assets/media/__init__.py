"""Media contributions: how many files were taken on each day and in each hour."""

from assets.media.tallies import system

__all__ = ["system"]
