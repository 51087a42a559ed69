"""The twistd plugins: options checked before anything starts, and the services they make."""
