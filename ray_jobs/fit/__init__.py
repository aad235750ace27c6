"""One phase as one TorchTrainer fit."""
