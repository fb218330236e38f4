"""What the gateway knows, without any I/O: channels, positions, envelopes, books, state."""
