"""Streams of training batches: epoch plan, shuffle buffer, cursor, mixtures."""
