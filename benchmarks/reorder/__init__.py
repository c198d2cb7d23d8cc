"""How good, how fast and how true to a real server the room kvcache_reorder is."""
