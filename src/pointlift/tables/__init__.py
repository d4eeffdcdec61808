"""`pointlift table`: every table and figure of the papers as one command;
see `definition` for the YAML that describes one.
"""
