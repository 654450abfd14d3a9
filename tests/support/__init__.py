"""What tests share: helpers that are plain functions, so that a test reads from top to bottom."""
