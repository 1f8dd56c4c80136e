"""Schemas of file formats: branches, units, formulas, labels and cuts."""
