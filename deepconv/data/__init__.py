"""From records on disk to batches on the device."""
