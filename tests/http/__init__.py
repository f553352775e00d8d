"""The service over HTTP, over the systems of the reference project."""
