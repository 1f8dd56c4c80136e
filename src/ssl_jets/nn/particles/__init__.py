"""Targets of particles: heads on the tokens of an encoder, and their losses."""
