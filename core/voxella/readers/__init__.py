"""The reader study: people say of blinded volumes whether they are real, and how good they are."""
