"""``python -m trove_async.cli``."""

from trove_async.cli import main

if __name__ == "__main__":
    main()
