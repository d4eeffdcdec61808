"""One reader per file format; each turns a path into a
:class:`~pointlift.data.files.formats.content.FileContent`.
"""
