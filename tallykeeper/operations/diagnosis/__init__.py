"""`tally doctor`: whether everything that tallies need is there, and what to do where it is not."""
