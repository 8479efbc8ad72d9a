"""What rtden costs and how well it denoises."""
