"""Stand-in."""


def quantize(model):
  return model
