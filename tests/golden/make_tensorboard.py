#!/usr/bin/env python3
"""run.tfevents: what src/report/tensorboard.rs writes for two epochs, by TensorBoard's own messages and writer.

    pip install tensorboard==2.20.0 && tests/golden/make_tensorboard.py"""

import pathlib

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

START = 1_700_000_000.5


def epoch(step, wall_time, loss, accuracy, unlabelled):
    values = [("loss/total", loss), ("loss/labelled", 0.25)]
    values += [("loss/unlabelled", 0.125), ("loss/validation", 0.5)] if unlabelled else [("loss/validation", 0.5)]
    values += [("accuracy/train", 1.0), ("accuracy/validation", accuracy), ("f1/validation", 0.75), ("f1/validation_macro", 0.625)]
    values += [("schedule/lambda_u", 3.0)] if unlabelled else []
    values += [("schedule/learning_rate", 0.002)]
    values += [("guesses/confidence", 0.9)] if unlabelled else []
    values += [("speed/seconds", 2.0), ("speed/labelled_images_per_second", 640.0)]
    values += [("guesses/mask", 0.25), ("guesses/no_mask", 0.75)] if unlabelled else []
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
    return Event(wall_time=wall_time, step=step, summary=summary)


def main():
    text = Summary.Value(
        tag="configuration/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype="DT_STRING",
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
            string_val=["λ_u 3".encode()],
        ),
    )
    events = [
        Event(wall_time=START, step=0, file_version="brain.Event:2"),
        Event(wall_time=START, step=0, summary=Summary(value=[text])),
        epoch(10, START + 2, 0.75, 0.5, True),
        epoch(20, START + 4, 0.5, 0.875, False),
    ]
    with open(pathlib.Path(__file__).parent / "run.tfevents", "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))
        writer.flush()


main()
