"""Pictures measured: a model beside gamma, CLAHE and other models, on folders that are given as arguments."""
