"""Runner: from a suite to stored outcomes (suite -> plan -> units -> executor -> store)."""
