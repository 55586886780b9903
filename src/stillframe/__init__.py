"""A still frame of every process that dies in your cluster."""

__version__ = "0.1.0"
