"""`python -m ssl_jets`: the command line; a `random.py` in the working folder hides no other module from it."""

import os
import sys
from contextlib import suppress

with suppress(FileNotFoundError):  # the working folder was removed
    if sys.path[0] == os.getcwd():
        sys.path.append(sys.path.pop(0))

from ssl_jets.cli import main

main()
