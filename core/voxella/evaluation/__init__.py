"""How near synthetic volumes are to real ones."""
