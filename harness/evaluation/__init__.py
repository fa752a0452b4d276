"""What happens inside one unit: gates before the attack, a meter during it, a referee after it."""
