"""The databases: tables, connections, and the functions that read and write them."""
