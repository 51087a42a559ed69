"""The components of a job's life; `lifecycle.flow` says who handles and publishes what."""
