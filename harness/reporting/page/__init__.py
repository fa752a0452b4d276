"""The page: a static leaderboard and a page a model, written from stored outcomes and records; it opens from a disk, without a network."""
