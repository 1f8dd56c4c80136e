"""Encoders of another architecture behind the interface of the encoder."""
