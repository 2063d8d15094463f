"""Real data in, versions out: a model is a file in trainer/zoo, a version is put into the store
whole or not at all."""
