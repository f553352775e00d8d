"""How a page of the gallery's items is asked for and found."""
