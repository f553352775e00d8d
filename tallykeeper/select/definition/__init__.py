"""The definition view: made from what the user wrote, read as the catalog keeps it."""
