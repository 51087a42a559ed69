"""How fast the bus is: `make bench`, or `python -m benchmarks --help`."""
