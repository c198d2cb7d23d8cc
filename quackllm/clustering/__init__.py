"""Groups of things by vectors and by answers: pure NumPy, imports nothing of ours."""
