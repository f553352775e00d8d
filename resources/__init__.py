"""The outside world: settings, and the database that one brings or that comes along."""
