"""A static website with a leaderboard and one page per model, written from stored outcomes and records; it works offline, from a disk."""
