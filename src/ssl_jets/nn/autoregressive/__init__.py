"""Parts of a generator that draws the particles of a jet one by one."""
