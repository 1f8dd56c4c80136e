"""Representation statistics, collapse verdicts and the monitor of a training."""
