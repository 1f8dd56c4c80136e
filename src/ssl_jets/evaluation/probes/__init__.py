"""Probes of z: classes, physics quantities, robustness."""
