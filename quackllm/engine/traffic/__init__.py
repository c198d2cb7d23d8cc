"""What all statements of an engine share on the way to one endpoint: turns, pace, outages."""
