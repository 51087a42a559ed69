"""Talking to a broker: connections that come back, publishes that are sent until answered."""
