"""A durable message bus and the job-life-cycle agents on it."""
