"""From files to z: encode, join rows, write the z file."""
