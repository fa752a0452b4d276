"""Tables, figures and pages from stored outcomes and records, as pure functions; no module of this package attacks a model."""
