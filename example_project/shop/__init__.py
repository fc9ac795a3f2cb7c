"""A small shop in which every service exists twice: with its race, and without."""
