"""Work that ships with the package: the commands that jobs run."""
