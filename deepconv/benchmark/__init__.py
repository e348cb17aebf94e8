"""How fast training, input and tests are here."""
