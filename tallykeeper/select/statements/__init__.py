"""The statements that a plan consists of."""
