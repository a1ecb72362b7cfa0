"""`python -m paccel`: the command line, where the `paccel` script is not on the path."""

from .cli import main

main()
