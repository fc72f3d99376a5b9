"""Managed streams and the records of resumable uploads."""
