"""The exported model folder: its files, what ``config.json`` says, what is left out of it."""
