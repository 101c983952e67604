"""Fuzz targets: what reads bytes that others chose.  `python -m tests.fuzz TARGET SECONDS` runs one for long."""
