"""`python -m ssl_jets`: the command line."""

from ssl_jets.cli import main

main()
