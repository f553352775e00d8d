"""Reading tallies, exact as of the last commit: live views, groups, keys, frames, exports."""
