"""How the nets are made fast, each operation beside its plain form."""
