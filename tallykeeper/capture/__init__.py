"""Change capture: triggers that record, in the writer's transaction, what a change may alter."""
