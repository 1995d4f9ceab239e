"""The exercises: `python -m exercises list`, `python -m exercises check ID`, or in a notebook `check("ID", function)`.

To read it: manifest.toml (what there is), chNN.py (what you fill in), workshop/ (inputs, and answers that the library
does not hold), checking.py (how a function is checked), skeletons.py (how chNN.py is made).
"""

from exercises.checking import check

__all__ = ["check"]
