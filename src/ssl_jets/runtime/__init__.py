"""The process: atomic files, console, process group, launcher, signals, memory, precision."""
