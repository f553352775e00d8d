"""Deleting old rows of sources while what they count stays."""
