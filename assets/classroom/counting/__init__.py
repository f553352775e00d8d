"""What is counted of the classroom's log, and how: the parts of the declarations' SELECTs."""
