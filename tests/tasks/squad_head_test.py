"""The loss of question answering by hand."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from toolkit.tasks import squad_head


def test_loss_is_the_mean_of_both_cross_entropies():
  with tf.Graph().as_default(), tf.Session() as session:
    loss = squad_head.span_loss(
      tf.constant([[0.0, 0.0]]), tf.constant([[np.log(3.0), 0.0]], tf.float32), [0], [0]
    )
    # start: -log(1/2); end: -log(3/4)
    assert session.run(loss) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2, rel=1e-5)
