"""Writers against refreshes: what only shows when several connections work at once."""
