"""The page: the flow with live counts, workflows, jobs, queues and results, in a browser."""
