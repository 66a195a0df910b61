"""One file a family: other people's weights become our checkpoint."""
