"""`python -m mdetr`: the same as the command `mdetr`."""

import sys

from mdetr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
