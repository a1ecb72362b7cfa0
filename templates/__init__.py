"""The bundled templates: package data, read as files by the generator, imported by nobody."""
