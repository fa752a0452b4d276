"""Adapters to attacks of third-party packages, which are imported when an attack runs."""
