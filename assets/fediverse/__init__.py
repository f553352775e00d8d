"""Mastodon's stream of events: posts, versions, hashtags, and what is trending."""
