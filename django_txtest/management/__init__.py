"""Management of the project from the command line."""
