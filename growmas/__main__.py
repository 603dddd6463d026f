"""The command line as a module: `python -m growmas`, also for torchrun."""

from growmas.cli import main

if __name__ == "__main__":
    main()
