"""The mechanism of training; knows no model."""
