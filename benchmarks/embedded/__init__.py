"""The embedded model: its throughput, and how well it labels."""
