"""Helpers without a domain: files, the machine, text formats, statistics."""
