"""``python -m merino_edge`` is the command line."""

import sys

from merino_edge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
