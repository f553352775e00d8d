"""Each system of the reference project: what breaks for that system alone."""
