"""The page of the reference project: the figures of its four systems in a browser, in `static/`."""
