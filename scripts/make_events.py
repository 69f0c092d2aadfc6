#!/usr/bin/env python3
"""Makes tests/fixtures/events.tfevents with TensorBoard's own code (pip install tensorboard).

Given a folder, it shows what TensorBoard reads there instead, and fails if the steps of a value do not strictly increase: they must
even after `bitfit train --tensorboard` was killed and resumed.
"""

import math
import sys
from pathlib import Path

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/events.tfevents"


def make():
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    def summary(**values):
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        return summary_pb2.Summary(value=values)

    def values(loss, accuracy):
        return summary(**{"train/loss": loss, "dev/accuracy": accuracy})

    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = [
        event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=2.25, step=1, session_log=start),
        event_pb2.Event(wall_time=3.0, step=1, summary=values(0.7, 0.5)),
        event_pb2.Event(wall_time=4.0, step=300, summary=values(1e-9, -1.0)),
        event_pb2.Event(wall_time=5.0, step=200, session_log=start),
        event_pb2.Event(wall_time=6.0, step=1 << 40, summary=summary(**{"x" * 200: math.nan})),
    ]
    with open(FIXTURE, "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString(deterministic=True))
        writer.flush()


def show(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(folder, size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    if not tags:
        sys.exit(f"{folder}: TensorBoard finds no values")
    for tag in tags:
        steps = [event.step for event in found.Scalars(tag)]
        last = found.Scalars(tag)[-1].value
        print(f"{tag}: {len(steps)} values, steps {steps[0]} to {steps[-1]}, the last {last:.6g}")
        if any(after <= before for before, after in zip(steps, steps[1:])):
            sys.exit(f"{folder}: the steps of {tag} do not increase: {steps}")


if __name__ == "__main__":
    make() if len(sys.argv) == 1 else show(sys.argv[1])
