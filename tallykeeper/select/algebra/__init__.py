"""The algebra of a SELECT: signed sums of products, and the nodes that they are grouped into."""
