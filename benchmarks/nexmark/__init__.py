"""Nexmark in the schema `nexmark`: persons, auctions and bids, its aggregating queries, and events.

Written after the definitions of the benchmark for streams of an auction house; windows that slide
or follow the clock of the machine are left out, or tumble.
"""
