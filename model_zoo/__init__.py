"""Models: everything that makes, stores or loads one. Importing the package itself imports no heavy dependency."""
