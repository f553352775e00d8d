"""TPC-H in the schema `tpch`: tables, generated rows, the 22 queries as tallies, and changes.

Written after the definitions of the specification (tpc.org, revision 3.0.1), none of its text
copied. Distributions follow it closely enough that every query returns rows at every scale. These
are not results of the TPC benchmark, and cannot be compared with such.
"""
