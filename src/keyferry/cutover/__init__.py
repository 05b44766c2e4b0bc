"""Step 3: the phase record from the operator's side; steps, and who has taken them."""
