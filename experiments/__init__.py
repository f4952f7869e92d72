"""What is true before any statistics: specs, registry, assignment, facts and costs."""
