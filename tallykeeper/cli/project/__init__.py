"""Commands that write files of a project: `tally init`, `tally new`."""
