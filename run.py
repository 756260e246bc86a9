"""The daemon's command line: ``python run.py --help``."""

if __name__ == "__main__":
    try:
        from realtime.cli import main

        main()
    except KeyboardInterrupt:  # while the program is still being loaded
        raise SystemExit(130) from None
