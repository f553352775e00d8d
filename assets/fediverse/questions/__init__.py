"""What may be asked of the fediverse, a module for each subject; `reads.py` has all of them."""
