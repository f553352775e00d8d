"""The real command in a process of its own: what it prints, how it ends, what it left."""
