"""`python -m bertconv`: the command line, where its script is not on the PATH."""

from bertconv.cli import main

if __name__ == "__main__":
    main()
