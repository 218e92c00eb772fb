"""Recipes: one YAML file, one experiment."""
