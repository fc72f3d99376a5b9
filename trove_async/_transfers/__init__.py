"""Uploads and downloads that survive their process: whole files, sessions and their parts."""
