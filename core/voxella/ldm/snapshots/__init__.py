"""Averages of the weights kept while training, from which any other average is made afterwards."""
