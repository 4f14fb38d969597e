"""Sources of prices and carbon, one file each, and the wrappers that give them quality."""
