"""Further collections of a jet, such as secondary vertices: declared, found in files, decoded."""
