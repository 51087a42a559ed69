"""Where jobs run: submit, status and cancel, on this machine or on a batch system."""
