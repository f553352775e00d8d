"""Commands that show what there is, and whether all that is needed is."""
