"""The PI-CAI challenge's images, marksheet and splits."""
