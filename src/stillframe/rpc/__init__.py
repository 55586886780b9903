"""The protocol between agent and operator, generated from ``proto/``."""
