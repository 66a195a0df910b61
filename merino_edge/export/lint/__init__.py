"""Rules that a graph must keep for a target's parser; ``export.tensorrt_rules`` applies them."""
