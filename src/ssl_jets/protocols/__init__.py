"""Protocols: long evaluations that train as well. Finished results are kept, and a stopped protocol resumes."""
