"""SELECTs as trees: parsed, printed, and brought into normal form."""
