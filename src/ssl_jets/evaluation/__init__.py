"""Evaluation of models, of z files and of generated jets: metrics, probes, baselines, typed results."""
