//! Damaged files: each must open, keep what can be kept, and say what happened.
