"""Awkward arrays of records, such as those of vector and coffea, as packed columns and back."""
