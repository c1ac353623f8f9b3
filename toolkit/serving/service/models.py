"""The models of a service, and the calls of them that all APIs share."""

from collections.abc import Sequence
from typing import Any, Callable, Optional

from starlette.requests import Request

from toolkit.formats import model_heads
from toolkit.serving.service.metrics import Metrics
from toolkit.serving.service.refusals import Limits, Refused
from toolkit.serving.service.scheduling import Operation, Scheduler
from toolkit.serving.service.tasks import Model


class Models:
  """Loaded models by name, the scheduler that runs them, and the limits of requests."""

  def __init__(
    self, models: Sequence[Model], scheduler: Scheduler, limits: Limits, metrics: Metrics
  ) -> None:
    """Takes the models in the order in which the command line names them."""
    self.all = list(models)
    self.metrics = metrics
    self.scheduler = scheduler
    self.limits = limits

  def find(self, name: str) -> Model:
    """Returns a model; Refused if there is none of this name."""
    for model in self.all:
      if model.name == name:
        return model
    names = ", ".join(model.name for model in self.all)
    raise Refused(404, f"there is no model of this name; there are {names}", "model_not_found")

  def first_encoder(self) -> Model:
    """Returns the first encoder; Refused if there is none."""
    for model in self.all:
      if model.task == model_heads.ENCODER:
        return model
    raise Refused(404, "there is no model that gives vectors of texts", "model_not_found")

  async def run(
    self,
    operation: Operation,
    items: Sequence[Any],
    is_gone: Callable[[], bool] = lambda: False,
  ) -> list[Any]:
    """Runs an operation over the items of a request; see Scheduler.run."""
    results = await self.scheduler.run(operation, items, self.limits.answer_seconds, is_gone)
    self.metrics.count("bert_instances_total", operation.name, by=len(results))
    self.metrics.count("bert_truncated_total", operation.name, by=sum(map(was_cut, results)))
    return results


def is_gone(request: Request) -> Callable[[], bool]:
  """Returns a function that tells whether the client of a request has closed the connection."""
  return request.scope.get("state", {}).get("is_gone", lambda: False)


def truncated_places(results: Sequence[Any]) -> list[int]:
  """Returns the numbers of the results whose text was cut."""
  return [number for number, result in enumerate(results) if was_cut(result)]


def was_cut(result: Any) -> bool:
  """Returns whether the text of a result was longer than the model's input, and lost its end."""
  found: Optional[bool] = (
    result.get("truncated") if isinstance(result, dict) else getattr(result, "truncated", False)
  )
  return bool(found)
