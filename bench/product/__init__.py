"""`python -m bench product`: the cost of operations beside that of what they are made of."""
