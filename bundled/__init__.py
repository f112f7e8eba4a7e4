"""What slmflow ships so that it runs offline: a tiny Phi-3 and the questions it answers."""
