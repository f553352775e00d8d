"""Watching and repairing: messages, repairs, figures for Prometheus. It knows no Dagster."""
