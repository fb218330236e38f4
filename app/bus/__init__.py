"""The road between processes."""
