"""`python -m frz_cli`: the command line where the console script is not on the path."""

from frz_cli.main import main

main()
