"""Tallies whose rows lie in several places: parts of one application's data, each kept by itself.

A place is an ordinary connection and what tables are called there (`Place`). A tally is kept in
each by the code that keeps it in one database. What is said of all places together is put
together here, or refused where it does not follow from theirs.
"""
