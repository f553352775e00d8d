"""Reading files and DataFrames row by row, with a list of what was rejected."""
