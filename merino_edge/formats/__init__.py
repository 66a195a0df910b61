"""Files that cross machines: standard library only, Python 3.6 and later."""
