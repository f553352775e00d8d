"""Mastodon's stream of events: posts, versions, hashtags, and what is trending."""

from assets.fediverse.tallies import system

__all__ = ["system"]
