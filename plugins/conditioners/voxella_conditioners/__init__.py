"""Conditioners (none, radclass, ella, ccella and its variants) and text encoders."""
