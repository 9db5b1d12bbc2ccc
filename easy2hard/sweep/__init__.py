"""Sweeps: the same experiment with this changed and that, over several seeds, each run on its own (docs/sweeps.md).

plan.py      a sweep file -> the runs it asks for
trial.py     a run of a sweep, and the supervised phases that runs share
execute.py   brings them to their end, each in a process of its own
forecast.py  how long that takes
results.py   what is on the disk -> a row for each run (row.py)
verdict.py   rows -> summaries of the variants, places, the verdict
page.py      summaries -> the page
"""
