"""The exercises: `python -m exercises list`, `python -m exercises check ID`, or in a notebook `check("ID", function)`.

To read it: manifest.toml (what there is), chNN.py (what you fill in), skeletons.py (how that is made), workshop/ (inputs, and
answers that the library does not hold); calling.py, checking.py (calls a function, judges what it returns), mistakes/ and
diagnosis.py (say why it is wrong), pictures.py; runner.py, child.py, guard.py, sources.py, wire.py (the same in another
process); course.py and __main__.py (for students); submissions.py, grading.py, reports.py (for teachers).
"""

from exercises.checking import check

__all__ = ["check"]
