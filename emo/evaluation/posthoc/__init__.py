"""What is done to the probabilities of a trained model: a temperature, other class shares."""
