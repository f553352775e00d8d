"""From the tree that PostgreSQL keeps of a SELECT to the SQL of another query engine."""
