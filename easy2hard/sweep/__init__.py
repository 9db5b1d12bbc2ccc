"""Sweeps: the same experiment with this changed and that, over several seeds, each run on its own (docs/sweeps.md).

plan.py      a sweep file -> the runs it asks for
execute.py   brings them to their end, each in a process of its own
results.py   what is on the disk -> the table, the ranking, the report
"""
