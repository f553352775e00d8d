"""The component for a project of `dg`: its attributes, and what `dg scaffold defs` writes."""
