"""Settings of a run.

schema.py    all sections together, and what they ask of each other
model.py, training.py, rounds.py, filters.py    the sections
recipes.py   reading them: recipes, what replaces their values, errors in one line
renamed.py   old and new keys
scaling.py   any recipe at the size of a laptop
docs.py      every setting in words
"""
