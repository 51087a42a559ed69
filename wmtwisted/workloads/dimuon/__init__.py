"""A dimuon mass spectrum: generate or read events, select them in many jobs, merge the result.

The commands import nothing but the standard library (and `wmtwisted.errors`), since every job pays
for its imports; matplotlib is imported by the plot alone.
"""
