"""What teams write themselves, as the libraries' own pages recommend it, to be measured beside
ours."""
