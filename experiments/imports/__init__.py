"""Cost imports, one file per format: each turns a file into usage rows and rejects."""
