"""The daemon's command line: ``python run.py --help``."""

from realtime.cli import main

if __name__ == "__main__":
    main()
