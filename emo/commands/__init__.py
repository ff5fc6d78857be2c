"""The commands of `emo`: one file each, in one table. Heavy imports happen inside the commands."""

from emo.commands.command import Command
from emo.commands.machine import doctor, fields
from emo.commands.results import compare, ensemble, report, runs
from emo.commands.results import eval as evaluation
from emo.commands.training import config, crossval, sweep, train
from emo.commands.use import demo, export, features, predict

# By heading, in the order in which `emo --help` lists them.
GROUPS: dict[str, tuple[Command, ...]] = {
    "train": (train.COMMAND, crossval.COMMAND, sweep.COMMAND, config.COMMAND, fields.COMMAND),
    "look at results": (
        evaluation.COMMAND,
        compare.COMMAND,
        ensemble.COMMAND,
        report.COMMAND,
        runs.COMMAND,
    ),
    "use a trained model": (predict.COMMAND, demo.COMMAND, export.COMMAND, features.COMMAND),
    "this machine": (doctor.COMMAND,),
}
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}
