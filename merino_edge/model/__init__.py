"""The decoder in torch, its checkpoints, and importers of other people's weights."""
