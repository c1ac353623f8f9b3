"""One or two texts to the input of a model, for all tasks over whole texts."""

from typing import Optional

import tokenization
from toolkit.support import files


def encode(
  tokenizer: tokenization.FullTokenizer, text: str, text_b: Optional[str], max_seq_length: int
) -> tokenization.Encoded:
  """Encodes one or two texts, see tokenization.encode_pair.

  Raises:
    files.InputError: max_seq_length leaves no room for any text.
  """
  encoded = None
  if max_seq_length > 2:
    encoded = tokenization.encode_pair(tokenizer, text, text_b, max_seq_length)
  if encoded is None or (encoded.is_truncated and len(encoded.tokens) == 2):
    raise files.InputError(
      f"--max_seq_length: {max_seq_length} leaves no space for text; give more"
    )
  return encoded
