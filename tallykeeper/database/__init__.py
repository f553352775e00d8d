"""How Tallykeeper talks to PostgreSQL: addresses, sessions, SQL text, who holds a lock."""
