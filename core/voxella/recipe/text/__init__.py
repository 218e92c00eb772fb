"""The block `text` of a recipe: which reports are read, and what stands for absent ones."""
