"""The Python API: the command line's power without a shell. Heavy imports wait until something needs them.

import easy2hard

run = easy2hard.run("copy-cpu", seed=1, rounds__count=3)
run.metrics                     # a DataFrame
run.solve(["31415926535897="])
easy2hard.frame(["runs/copy-cpu-seed0", run])

opened.py    Run: a run directory, and a method for each command about it
asked.py     what is asked of a run's weights: answers, exact match
sweeping.py  variants over seeds
written.py   what is known of a file that was written
calls.py     a run from a recipe; tables of several runs
"""
