"""Well names and well metadata of tables, and their join to images."""
