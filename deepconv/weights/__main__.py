"""Import and export weights as safetensors files with the names of torchvision and timm, without torch.

    python -m deepconv.weights import --config=configs/vgg16.py --library=torchvision --from=vgg16.safetensors --out=DIR
    python -m deepconv.weights export --run=DIR --library=torchvision --to=vgg16.safetensors

A file does not record how its net is built, and only files that deepconv exported record which images it takes.
--library sets both for the nets of torchvision and timm, --input sets the images only; the run keeps them. Only arrays
are read and written, never code.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from deepconv import cli
from deepconv.config import recipes
from deepconv.config.mistakes import suggestion
from deepconv.run.files import WriteError, expanded
from deepconv.weights import inputs


def define_flags() -> None:
    """Defines the flags of this command only; cli defines --config and its overrides."""
    flags.DEFINE_string("from", None, "import: the safetensors file.")
    flags.DEFINE_string("out", None, "import: the run directory to create.")
    flags.DEFINE_string("run", None, "export: the run directory.")
    flags.DEFINE_string("to", None, "export: the safetensors file to write.")
    flags.DEFINE_enum("library", None, [*inputs.LIBRARIES], inputs.LIBRARY_HELP)
    flags.DEFINE_string("input", None, inputs.INPUT_HELP)


def main(arguments: list[str]) -> int:
    """Imports or exports weights."""
    command, given = " ".join(arguments[1:]), flags.FLAGS
    needed = {"import": ("config", "from", "out"), "export": ("run", "to")}
    try:
        if command not in needed:
            problem = f"{command!r} is not a command" if command else "no command is given"
            raise ValueError(f"{problem}; {suggestion(command, needed)}")
        if missing := [f"--{name}" for name in needed[command] if not given[name].present]:
            raise ValueError(f"{command} needs {', '.join(missing)}")
        library, images = given.library or "", given.input or ""
        if command == "export":
            return _export(expanded(given.run), expanded(given.to), library, images)
        source = expanded(given.get_flag_value("from", ""))
        images = inputs.recorded(source, library, images)
        config, _ = cli.load_config(
            arguments[:1], change=lambda config, name: inputs.file_fields(config, library, images)
        )
        return _import(config, source, expanded(given.out), library, images)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=1 if isinstance(error, WriteError) else 2)


def _import(config: ConfigDict, source: Path, out: Path, library: str, images: str) -> int:
    if not source.exists():
        raise FileNotFoundError(f"--from={source} does not exist")
    # Imported here, since `--help` and mistakes need not wait for JAX.
    from deepconv import distributed
    from deepconv.run.checkpoint import CheckpointError
    from deepconv.weights.convert import WeightsError
    from deepconv.weights.files import import_file

    distributed.check_devices()
    try:
        import_file(config, source, out, inputs.in_bgr(library, images))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    except CheckpointError as error:
        return cli.refuse(str(error))
    if inputs.is_assumed(config, source, library, images):
        print(inputs.warning(config, source), file=sys.stderr)
    print(f"{out} holds the weights; a run can start from them with --init_from={out}")
    return 0


def _export(run: Path, target: Path, library: str, images: str) -> int:
    cli.check_file("to")
    recipes.read_run(run)  # raises for a wrong directory, before JAX is imported
    from deepconv import distributed
    from deepconv.weights.files import describe_mean, export_run, joined

    distributed.check_devices()
    step, net_input = export_run(run, target, library, images)
    print(f"{target} holds the weights of {run} at step {step}")
    if net_input:
        order = "BGR" if inputs.in_bgr(library, images) else "RGB"
        mean, std = describe_mean(net_input.mean), joined(net_input.std)
        print(f"its net takes {order} from 0 to 255 minus {mean}, divided by {std} (in R, G, B)")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
