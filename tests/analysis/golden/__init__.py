"""Numbers of outside software that is not a dependency, and the scripts that made them."""
