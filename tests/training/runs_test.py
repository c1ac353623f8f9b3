"""What a run starts from."""

from toolkit.support import command_line
from toolkit.training import runs


def test_labels_beside_weights_in_the_working_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "model.ckpt-7.index").touch()
  (tmp_path / "label_list.txt").write_text("no\nyes\n")
  values = {"do_train": False, "init_checkpoint": "model.ckpt-7", "output_dir": "out"}
  nothing = dict.fromkeys(runs.Run._fields)
  run = runs.Run(**{**nothing, "settings": command_line.Settings(values)})
  assert run.known_labels() == ["no", "yes"]
