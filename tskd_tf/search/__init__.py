"""The smallest student under Eq. 4: candidates, budgets, trials, verdict."""
