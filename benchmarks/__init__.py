"""Side-by-side measurements against peers: `make bench-NAME`, `make bench-NAME QUICK=1`."""
