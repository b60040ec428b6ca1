"""Linear models: least squares, elastic net, logistic and multinomial regression, mini-batches. The entry is `linear`."""
