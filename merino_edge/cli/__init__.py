"""The command line: a thin shell that imports one command at a time."""
