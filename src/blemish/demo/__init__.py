"""A synthetic product, seeded and drawn, and the page that shows how its inspection went."""
