"""What a Dagster instance needs besides definitions: storage, launcher, retention of runs."""
