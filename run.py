"""Start the program from a checkout: ``python run.py --help``."""

if __name__ == "__main__":
    try:
        from realtime.cli import main

        main()
    except KeyboardInterrupt:  # while the program is still being imported
        raise SystemExit(130) from None
