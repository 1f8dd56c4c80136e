"""Schemas: the names, units and formulas of a format, and the columns computed with them."""
