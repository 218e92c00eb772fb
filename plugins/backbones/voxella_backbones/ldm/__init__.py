"""Networks of 2D latent diffusion (Rombach et al. 2022), and names of their released weights."""
