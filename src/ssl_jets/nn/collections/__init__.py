"""Further collections of a jet in the encoder."""
