"""The arithmetic of decoders: costs, budgets, entropy. Pure: no torch, no vendor library."""
