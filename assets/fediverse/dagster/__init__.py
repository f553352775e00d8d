"""The fediverse's own assets, checks and charts in Dagster."""
