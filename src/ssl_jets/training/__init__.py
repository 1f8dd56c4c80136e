"""The training loop, its run folder, streams, optimizer and schedule."""
