"""Schemas that start from the YAML files of other taggers."""
