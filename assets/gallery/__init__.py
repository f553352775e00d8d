"""Gallery: items by creator and source, and the junction of items and tags."""
