"""Metrics with intervals: classification, regression, calibration, two-sample tests."""
