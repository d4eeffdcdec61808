"""One reader per file format; each turns a path into a :class:`~pointlift.data.formats.content.FileContent`."""
