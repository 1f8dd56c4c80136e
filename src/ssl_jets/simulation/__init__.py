"""Simulated jets: Pythia, a parametric detector, FastJet, and files in the JetClass layout.

The steps, each in its file: `processes` and `generator` make events, `detector` (with `tracks` and `calorimeter`)
reconstructs particles, `clustering` finds jets, `truth` labels them, `columns` computes the branches, `parts` repeats
this until there are enough jets, `storage` keeps finished parts, and `run` writes the file.
"""
