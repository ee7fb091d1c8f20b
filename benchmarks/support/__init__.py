"""What the benchmarks share. `make bench` runs the scripts one folder up; nothing here is a script of its own."""
