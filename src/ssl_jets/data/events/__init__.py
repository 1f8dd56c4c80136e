"""Events: several jets in an entry of a file."""
