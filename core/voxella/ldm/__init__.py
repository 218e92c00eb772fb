"""The latent diffusion model: build, batches, train, generate, export."""
