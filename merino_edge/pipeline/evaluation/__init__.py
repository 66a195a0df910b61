"""How good a model is: tasks and texts, scored by whatever runs it."""
