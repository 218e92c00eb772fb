"""A volume through an autoencoder in windows, where memory is too short for the whole of it."""
