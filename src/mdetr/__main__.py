"""`python -m mdetr`: the same as the command `mdetr`."""

from mdetr.cli.main import run

if __name__ == "__main__":
    run()
