"""How and when it runs: definitions, schedules, migrations, and the `tally` command line."""
