"""Stage 3, what separates: directions as values, their estimators, and the choice among them."""
