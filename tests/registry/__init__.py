"""Tests of the registry client and of pulling."""
