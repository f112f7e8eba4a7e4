"""Speed of converted models and cost of conversion, on random weights of real models' shapes."""
