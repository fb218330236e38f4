"""Inside a process: one event put before many clients."""
