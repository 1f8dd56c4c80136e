"""Losses and estimators of domain adaptation."""
