"""`python -m paccel`: the command line, for when the `paccel` script is not on the PATH."""

from .cli import main

main()
