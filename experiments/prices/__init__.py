"""What an AI call costs: contract prices above a public catalogue, and unpriced with a reason."""
