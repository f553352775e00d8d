"""Alerts: what Dagster recorded becomes incidents, and these become messages."""
