"""Other people's models: one module for each package or format they come from."""
