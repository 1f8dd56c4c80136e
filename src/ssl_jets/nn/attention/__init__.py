"""Attention within each jet: for any device, exact for runs of equal length, and the bias of pairs."""
