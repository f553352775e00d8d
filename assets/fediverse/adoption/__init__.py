"""Bringing over what another application kept of the fediverse."""
