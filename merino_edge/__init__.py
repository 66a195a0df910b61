"""A language model that fits your board: search, train, export, run.

Importing the root costs nothing on either machine; the parts are imported where they are used.
"""

__version__ = "0.1.0"
