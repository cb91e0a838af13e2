"""`python -m fsar.cli`."""

import sys

from fsar.cli import main

if __name__ == "__main__":
    sys.exit(main())
