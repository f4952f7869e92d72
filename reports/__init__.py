"""Report documents as data, and their renderings."""
