"""Changes that today leave something silently wrong, or unclear: by name, what is missing."""

from __future__ import annotations

NOT_YET: dict[str, str] = {}
