"""What is done, so that a killed run goes on."""
