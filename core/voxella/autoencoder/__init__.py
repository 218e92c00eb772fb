"""Images to latents and back: training an autoencoder, loading it, measuring it."""
