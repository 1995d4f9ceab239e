"""Behind the exercises, one file for each chapter: for an exercise `ID` there are

- `inputs_ID(rng)`: a list of argument tuples, chosen so that usual mistakes show (no two axes equal, several rows, …);
- `ID(…)`: the answer, where the library does not hold it;
- `judge_ID(found, *arguments)`: what is wrong as a sentence, or None, where more than one answer is right;
- `listing_ID(…)`: what the reader repairs.

Reading on spoils the exercises.
"""
