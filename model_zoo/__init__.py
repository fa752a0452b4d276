"""The models: all that makes, stores or loads one. Importing this package loads nothing heavy."""
