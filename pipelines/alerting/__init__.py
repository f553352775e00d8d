"""Alerts: what is heard becomes incidents, and these become messages that are delivered."""
