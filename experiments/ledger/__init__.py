"""The cost ledger: lines of the spec as exact accruals, shared cost, and exchange rates."""
