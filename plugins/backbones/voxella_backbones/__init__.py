"""Denoisers (`maisi_unet`, `dit3d`) and autoencoders (`maisi`, `kl`) that come with voxella."""
