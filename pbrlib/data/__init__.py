"""From a source of materials to a batch on the device."""
