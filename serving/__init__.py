"""The reads over HTTP, for applications in any language: thin over each system's reads."""
