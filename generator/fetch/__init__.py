"""An address in, a folder on this disk out: directories, ZIP files and git repositories."""
