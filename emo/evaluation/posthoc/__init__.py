"""What is done to the probabilities of trained models: temperature, class shares, ensembles."""
