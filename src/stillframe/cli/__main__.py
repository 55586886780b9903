"""``python -m stillframe.cli``: the same as the installed ``stillframe``."""

from stillframe.cli import main

main()
