"""`python -m ludora` is `ludora`."""

from ludora.cli.main import main

if __name__ == "__main__":
    main()
