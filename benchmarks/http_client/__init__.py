"""What a call over HTTP costs the client."""
