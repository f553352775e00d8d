"""The engine on schemas of its own: nothing here needs a system of the reference project."""
