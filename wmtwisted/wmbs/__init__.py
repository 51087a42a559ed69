"""Workload bookkeeping: what workflows, files and jobs are, and how work becomes jobs. Pure."""
