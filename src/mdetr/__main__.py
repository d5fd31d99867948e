"""`python -m mdetr`: the same as the command `mdetr`."""

from mdetr.cli.main import main

if __name__ == "__main__":
    main()
