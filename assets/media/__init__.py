"""Media contributions: how many files were taken on each day and in each hour."""
