"""Files and folders: constant memory, originals untouched, no half-written result."""
