"""The catalogue: what roles can do to an installation, and what must come of each.

`changes/` holds the changes, as data; `shop.py` and `beds.py` the databases that they are applied
to; `examination.py` applies one and looks at everything that could show a wrong figure. None may
leave a figure silently wrong.
"""
