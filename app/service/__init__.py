"""The HTTP service: allocations and events."""
