"""What a request costs, measured in one run against parts that do less: see README.md beside this
file."""
